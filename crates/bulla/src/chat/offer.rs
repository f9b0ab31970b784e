//! What a business offers to choose from, as text: for both kinds of chat. What a person chooses comes out as a draft, which the engine judges again.

use bulla_client::event::{Direction, Draft, Message, Shown, Status};
use bulla_client::media::FileCard;
use bulla_e2ee::content::{
    Action, Answer, Button, Category, Email, Field, FieldKind, FieldProblem, FieldValue, Form, FormKind, Header,
    Interactive, Location, MessageId, Name, Ordered, Person, Phone, Product, QUANTITY,
};

use super::files;
use crate::text::one_line;

/// Characters of a title or a line of somebody else's.
const LINE: usize = 300;

/// Of a message with something to choose: what it offers.
pub(super) fn interactive(message: &Message) -> Option<&Interactive> {
    match &message.shown {
        Shown::Interactive(interactive, _) if !message.deleted => Some(interactive),
        _ => None,
    }
}

/// Whether this is an own answer to that message. What failed or was taken back is none.
pub(super) fn answers(message: &Message, offer: &MessageId, action: &Action) -> bool {
    let of_its_kind = match &message.shown {
        Shown::Answer(_) => true,
        Shown::Location(_) => matches!(action, Action::Location),
        Shown::Contacts(_) => matches!(action, Action::Form(form) if form.kind == FormKind::Contact),
        _ => false,
    };
    of_its_kind
        && message.direction == Direction::Outgoing
        && message.reply_to.as_ref() == Some(offer)
        && message.status != Status::Failed
        && !message.deleted
}

/// Something that can be chosen by its number.
pub(super) enum Choice<'a> {
    /// Answers at once.
    Reply(&'a str, &'a str),
    /// A row of a list.
    Row(&'a bulla_e2ee::content::Row),
    /// Something to buy.
    Product(&'a Product),
}

/// What can be chosen, in the order of the numbers, from 1 on.
pub(super) fn choices(action: &Action) -> Vec<Choice<'_>> {
    match action {
        Action::Buttons(buttons) => buttons
            .iter()
            .filter_map(|button| match button {
                Button::Reply { id, title } => Some(Choice::Reply(id, title)),
                _ => None,
            })
            .collect(),
        Action::List(list) => list.sections.iter().flat_map(|section| &section.rows).map(Choice::Row).collect(),
        Action::Products(products) => products.items.iter().map(Choice::Product).collect(),
        _ => Vec::new(),
    }
}

/// The answer for what was typed after `/choose`: a number, of products several, each with `xN` for how many.
pub(super) fn chosen(action: &Action, typed: &str) -> Result<Answer, String> {
    let all = choices(action);
    let many = matches!(action, Action::Products(_));
    let how = if many { "/choose 1 3x2: numbers, and how many of each" } else { "/choose N: a number from the list" };
    let mut items: Vec<Ordered> = Vec::new();
    for word in typed.split_whitespace() {
        let (number, quantity) = word.split_once(['x', '×']).unwrap_or((word, "1"));
        let at = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let choice =
            at.and_then(|at| all.get(at)).ok_or_else(|| format!("there is no {}; {how}", one_line(word, 20)))?;
        match choice {
            Choice::Product(product) => {
                let quantity = quantity.parse().ok().filter(|n| (1..=QUANTITY).contains(n));
                let quantity = quantity.ok_or_else(|| format!("of each there can be 1 to {QUANTITY}; {how}"))?;
                if items.iter().any(|item| item.id == product.id) {
                    return Err(format!("{number} stands there twice; {how}"));
                }
                items.push(Ordered { id: product.id.clone(), quantity });
            }
            _ if typed.trim() != number => return Err(how.to_owned()),
            Choice::Reply(id, title) => {
                return Ok(Answer::Button { id: (*id).to_owned(), title: (*title).to_owned() });
            }
            Choice::Row(row) => {
                let (id, title, description) = (row.id.clone(), row.title.clone(), row.description.clone());
                return Ok(Answer::Row { id, title, description });
            }
        }
    }
    if items.is_empty() { Err(how.to_owned()) } else { Ok(Answer::Order { items, text: String::new() }) }
}

/// What it is a template for.
pub(super) fn category(of: Category) -> &'static str {
    match of {
        Category::Authentication => "code",
        Category::Marketing => "marketing",
        Category::Utility => "about your affairs",
    }
}

/// A message with something to choose, in lines. `answer` is what was answered to it.
pub(super) fn shown(of: &Interactive, file: Option<&FileCard>, id: &str, answer: Option<&Message>) -> String {
    let mut lines = Vec::new();
    if let Some(template) = &of.template {
        lines.push(format!("[message template · {}]", category(template.category)));
    }
    match &of.header {
        Some(Header::Text(text)) => lines.push(one_line(text, LINE)),
        Some(Header::Location(location)) => lines.push(place(location)),
        None => {}
    }
    lines.extend(file.map(|card| files::shown(card, id, Direction::Incoming)));
    if !of.body.is_empty() {
        lines.push(of.body.trim_end().to_owned());
    }
    lines.extend(of.footer.as_ref().map(|footer| format!("({})", one_line(footer, LINE))));
    lines.extend(action(of, id, answer));
    lines.join("\n")
}

fn action(of: &Interactive, id: &str, answer: Option<&Message>) -> Vec<String> {
    let given = answer.and_then(|message| match &message.shown {
        Shown::Answer(answer) => Some(answer),
        _ => None,
    });
    let mut number = 0;
    let mut numbered = |is_chosen: bool, text: String| {
        number += 1;
        let mark = if is_chosen { "✓".to_owned() } else { number.to_string() };
        format!("{mark:>3} {text}")
    };
    let mut lines = Vec::new();
    match &of.action {
        Action::Nothing => {}
        Action::Buttons(buttons) => {
            for button in buttons {
                let title = one_line(button.title(), LINE);
                lines.push(match button {
                    Button::Reply { id, .. } => {
                        numbered(matches!(given, Some(Answer::Button { id: chosen, .. }) if chosen == id), title)
                    }
                    Button::Url { url, .. } => format!("  → {title}: {}", one_line(url, 2_000)),
                    Button::Phone { number, .. } => format!("  ☎ {title}: {}", one_line(number, LINE)),
                    Button::Copy { code, .. } => format!("  ⧉ {title}: {}", one_line(code, LINE)),
                });
            }
        }
        Action::List(list) => {
            for section in &list.sections {
                if !section.title.is_empty() {
                    lines.push(format!("{}:", one_line(&section.title, LINE)));
                }
                for row in &section.rows {
                    let more = row.description.as_ref().map(|text| format!(" · {}", one_line(text, LINE)));
                    let text = format!("{}{}", one_line(&row.title, LINE), more.unwrap_or_default());
                    lines.push(numbered(matches!(given, Some(Answer::Row { id, .. }) if *id == row.id), text));
                }
            }
        }
        Action::Products(products) => {
            let mut section = None;
            for product in &products.items {
                if product.section != section {
                    section.clone_from(&product.section);
                    lines.extend(section.iter().map(|title| format!("{}:", one_line(title, LINE))));
                }
                let more = product.description.as_ref().map(|text| format!(" · {}", one_line(text, LINE)));
                let costs = price(product.price, &product.currency);
                let text = format!("{} · {costs}{}", one_line(&product.name, LINE), more.unwrap_or_default());
                let is_wanted = |item: &Ordered| item.id == product.id;
                let is_chosen = matches!(given, Some(Answer::Order { items, .. }) if items.iter().any(is_wanted));
                lines.push(numbered(is_chosen, text));
            }
        }
        Action::Form(_) | Action::Location => {}
    }
    lines.extend(how(of, id, answer.is_some()));
    lines
}

/// The command that answers it.
fn how(of: &Interactive, id: &str, is_answered: bool) -> Option<String> {
    if is_answered && !matches!(of.action, Action::Location) {
        return Some("answered".to_owned());
    }
    match &of.action {
        Action::Form(form) => Some(format!("{} · /form {id}", one_line(&form.button, LINE))),
        Action::Location => Some("it asks for a place · /location LAT LON NAME".to_owned()),
        Action::Products(products) => Some(format!("{} · /choose {id} 1 3x2", one_line(&products.button, LINE))),
        action if !choices(action).is_empty() => Some(format!("/choose {id} N")),
        _ => None,
    }
}

/// One line of it, for quotes.
pub(super) fn summary(of: &Interactive, file: Option<&FileCard>) -> String {
    match (&of.header, file) {
        _ if !of.body.is_empty() => one_line(&of.body, 200),
        (Some(Header::Text(text)), _) => one_line(text, 200),
        (Some(Header::Location(location)), _) => place(location),
        (None, Some(card)) => format!("📎 {}", files::described(card)),
        (None, None) => String::new(),
    }
}

/// An answer in a line, and if it is long in more.
pub(super) fn answered(answer: &Answer, offer: Option<&Interactive>) -> String {
    match answer {
        Answer::Button { title, .. } => format!("✓ {}", one_line(title, LINE)),
        Answer::Row { title, description, .. } => {
            let more = description.as_ref().map(|text| format!(" · {}", one_line(text, LINE)));
            format!("✓ {}{}", one_line(title, LINE), more.unwrap_or_default())
        }
        Answer::Form { values } => {
            let field = |name: &str| offer.and_then(|offer| offer.fields().find(|field| field.name == name));
            let line = |value: &FieldValue| {
                let field = field(&value.name);
                let label = field.map(|field| &field.label).filter(|label| !label.is_empty()).unwrap_or(&value.name);
                let values: Vec<_> = value.values.iter().map(|value| said(field, value)).collect();
                format!("\n{}: {}", one_line(label, LINE), values.join(", "))
            };
            format!("✓ form filled in{}", values.iter().map(line).collect::<String>())
        }
        Answer::Order { items, text } => {
            let products = match offer.map(|offer| &offer.action) {
                Some(Action::Products(products)) => products.items.as_slice(),
                _ => &[],
            };
            let name = |id: &String| products.iter().find(|p| p.id == *id).map_or(id, |product| &product.name).clone();
            let lines = items.iter().map(|item| format!("{} × {}", item.quantity, one_line(&name(&item.id), LINE)));
            let text = (!text.is_empty()).then(|| text.clone());
            lines.chain(text).collect::<Vec<_>>().join("\n")
        }
    }
}

fn said(field: Option<&Field>, value: &str) -> String {
    match field {
        Some(field) if field.kind == FieldKind::Yes => if value == "true" { "yes" } else { "no" }.to_owned(),
        Some(field) => {
            let option = field.options.iter().find(|option| option.id == value);
            option.map_or_else(|| value.to_owned(), |option| one_line(&option.title, LINE))
        }
        None => value.to_owned(),
    }
}

/// A place: what it is called, where it is.
pub(super) fn place(location: &Location) -> String {
    let words = [&location.name, &location.address].into_iter().flatten().map(|text| one_line(text, LINE));
    words.filter(|text| !text.is_empty()).chain([coordinates(location)]).collect::<Vec<_>>().join(" · ")
}

/// `52.51704, 13.38886`.
pub(super) fn coordinates(location: &Location) -> String {
    let (latitude, longitude) = location.degrees();
    format!("{latitude:.5}, {longitude:.5}")
}

/// A person: its name and how it is reached.
pub(super) fn person(person: &Person) -> String {
    let phones = person.phones.iter().filter_map(|phone| phone.phone.as_ref());
    let emails = person.emails.iter().filter_map(|email| email.email.as_ref());
    let pages = person.urls.iter().filter_map(|page| page.url.as_ref());
    let company = person.org.iter().filter_map(|org| org.company.as_ref());
    let name = person.shown_name().to_owned();
    let all = std::iter::once(&name).chain(company).chain(phones).chain(emails).chain(pages);
    all.map(|text| one_line(text, LINE)).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// What something costs, of thousandths.
pub(super) fn price(thousandths: u64, currency: &str) -> String {
    let (whole, part) = (thousandths / 1_000, thousandths % 1_000);
    let currency = one_line(currency, 3);
    if part % 10 == 0 {
        format!("{whole}.{:02} {currency}", part / 10)
    } else {
        format!("{whole}.{part:03} {currency}")
    }
}

/// A form that is being filled in, field by field.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Filling {
    /// The message with the form.
    pub(super) message: MessageId,
    form: Form,
    fields: Vec<Field>,
    values: Vec<FieldValue>,
    at: usize,
}

// What a person types is in nobody's log.
impl std::fmt::Debug for Filling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filling({} of {} fields)", self.at, self.fields.len())
    }
}

impl Filling {
    /// Of a message with a form that has fields.
    pub(super) fn begin(message: MessageId, form: &Form) -> Self {
        let fields = form.screens.iter().flat_map(|screen| screen.fields.iter().cloned()).collect();
        Self { message, form: form.clone(), fields, values: Vec::new(), at: 0 }
    }

    /// What is asked now, in lines: the question, and what can be answered.
    pub(super) fn question(&self) -> String {
        let Some(field) = self.fields.get(self.at) else { return String::new() };
        let label = if field.label.is_empty() { &field.name } else { &field.label };
        let hint = field.hint.as_ref().map(|hint| format!(" ({})", one_line(hint, LINE))).unwrap_or_default();
        let how = match field.kind {
            FieldKind::Date => " YYYY-MM-DD",
            FieldKind::One => " a number",
            FieldKind::Some => " numbers",
            FieldKind::Yes => " y or n",
            _ => "",
        };
        let empty = match (&field.value, field.required) {
            (Some(value), _) => format!(", empty for {}", said(Some(field), &one_line(value, LINE))),
            (None, false) => ", may be empty".to_owned(),
            (None, true) => String::new(),
        };
        let options = field.options.iter().zip(1..).map(|(option, n)| format!("{n} {}", one_line(&option.title, 60)));
        let options = options.collect::<Vec<_>>().join(" · ");
        let head = format!("{}/{} {}{hint}:{how}{empty}", self.at + 1, self.fields.len(), one_line(label, LINE));
        if options.is_empty() { head } else { format!("{head}\n{options}") }
    }

    /// Takes a line as the answer to what is asked; or says why it is none, and the same is asked again.
    pub(super) fn answer(&mut self, line: &str) -> Result<(), String> {
        if let Some(field) = self.fields.get(self.at) {
            let values = read(field, line.trim())?;
            field.judge(&values).map_err(|problem| words(field, &problem))?;
            if !values.is_empty() {
                self.values.push(FieldValue { name: field.name.clone(), values });
            }
            self.at += 1;
        }
        Ok(())
    }

    /// What is sent, once all was asked: of a form without fields, at once.
    pub(super) fn done(&self) -> Option<Draft> {
        (self.at >= self.fields.len()).then(|| self.draft())
    }

    fn draft(&self) -> Draft {
        let to = self.message;
        if self.form.kind != FormKind::Contact {
            return Draft::Answer { to, answer: Answer::Form { values: self.values.clone() } };
        }
        let of = |kind: FieldKind| {
            let is_of = move |value: &&FieldValue| {
                self.fields.iter().any(|field| field.name == value.name && field.kind == kind)
            };
            self.values.iter().filter(is_of).flat_map(|value| value.values.iter().cloned()).collect::<Vec<_>>()
        };
        let (phones, emails) = (of(FieldKind::Phone), of(FieldKind::Email));
        let named =
            self.values.iter().find(|value| value.name == "name").and_then(|value| value.values.first().cloned());
        let called = named.or_else(|| of(FieldKind::Text).into_iter().next());
        let called = called.or_else(|| phones.first().cloned()).or_else(|| emails.first().cloned());
        let person = Person {
            name: Name { formatted_name: called, ..Name::default() },
            phones: phones
                .into_iter()
                .map(|phone| Phone { phone: Some(phone), kind: Some("CELL".to_owned()), ..Phone::default() })
                .collect(),
            emails: emails
                .into_iter()
                .map(|email| Email { email: Some(email), kind: Some("HOME".to_owned()) })
                .collect(),
            ..Person::default()
        };
        Draft::Contacts { persons: vec![person], reply_to: Some(to) }
    }
}

/// What a line answers to a field: options by their numbers or their titles. An empty one is what stood there at first.
fn read(field: &Field, line: &str) -> Result<Vec<String>, String> {
    if line.is_empty() {
        return Ok(field.value.iter().cloned().collect());
    }
    let option = |word: &str| {
        let numbered = word.parse::<usize>().ok().and_then(|n| field.options.get(n.checked_sub(1)?));
        let titled = || field.options.iter().find(|option| option.title.to_lowercase() == word.to_lowercase());
        let found = numbered.or_else(titled).map(|option| option.id.clone());
        found.ok_or_else(|| {
            format!("there is no {}: answer with a number of those that stand there", one_line(word, 40))
        })
    };
    match field.kind {
        FieldKind::One => Ok(vec![option(line)?]),
        FieldKind::Some => {
            let mut chosen: Vec<String> = Vec::new();
            for id in line.split([',', ' ']).filter(|word| !word.is_empty()).map(option) {
                let id = id?;
                if !chosen.contains(&id) {
                    chosen.push(id);
                }
            }
            Ok(chosen)
        }
        FieldKind::Yes => match line.to_lowercase().as_str() {
            "y" | "yes" => Ok(vec!["true".to_owned()]),
            "n" | "no" => Ok(vec!["false".to_owned()]),
            _ => Err("answer with y or n".to_owned()),
        },
        _ => Ok(vec![line.to_owned()]),
    }
}

fn words(field: &Field, problem: &FieldProblem) -> String {
    match (problem, field.kind) {
        (FieldProblem::Missing, FieldKind::Yes) => "without a yes it cannot go on".to_owned(),
        (FieldProblem::Missing, _) => "this must be answered".to_owned(),
        (FieldProblem::Short, _) => format!("it must have at least {} characters", field.min.unwrap_or_default()),
        (FieldProblem::Long, _) => format!("it may have at most {} characters", field.max.unwrap_or_default()),
        (FieldProblem::Invalid, FieldKind::Number) => "that is not a number, such as 12 or 12.5".to_owned(),
        (FieldProblem::Invalid, FieldKind::Email) => "that is not an e-mail address".to_owned(),
        (FieldProblem::Invalid, FieldKind::Phone) => "that is not a telephone number".to_owned(),
        (FieldProblem::Invalid, FieldKind::Date) => "there is no such day: YYYY-MM-DD".to_owned(),
        (FieldProblem::Invalid, _) => "that is none of what can be chosen".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bulla_e2ee::content::{FieldOption, List, Products, Row, Screen, Section, TemplateName};

    use super::*;

    fn reply(id: &str, title: &str) -> Button {
        Button::Reply { id: id.into(), title: title.into() }
    }

    fn row(id: &str, description: Option<&str>) -> Row {
        Row { id: id.into(), title: id.to_uppercase(), description: description.map(str::to_owned) }
    }

    fn list() -> Action {
        let section = |title: &str, rows| Section { title: title.into(), rows };
        let sections = vec![
            section("Africa", vec![row("yirga", Some("jasmine")), row("kenya", None)]),
            section("", vec![row("huila", None)]),
        ];
        Action::List(List { button: "See".into(), sections })
    }

    fn products() -> Action {
        let product = |id: &str, price, section: Option<&str>| Product {
            id: id.into(),
            name: id.to_uppercase(),
            description: None,
            price,
            currency: "EUR".into(),
            section: section.map(str::to_owned),
        };
        let items = vec![product("beans", 12_500, Some("Coffee")), product("mug", 18_005, None)];
        Action::Products(Products { catalog: "c".into(), button: "See".into(), items })
    }

    fn field(name: &str, kind: FieldKind, required: bool) -> Field {
        let option = |id: &str| FieldOption { id: id.into(), title: format!("The {id}") };
        let options = match kind {
            FieldKind::One | FieldKind::Some => vec![option("a"), option("b")],
            _ => Vec::new(),
        };
        Field {
            name: name.into(),
            label: name.to_uppercase(),
            kind,
            required,
            options,
            hint: None,
            value: None,
            min: None,
            max: None,
        }
    }

    fn form(kind: FormKind, fields: Vec<Field>) -> Form {
        let screen = Screen { title: String::new(), text: None, fields, button: "Go".into() };
        Form { kind, button: "Fill in".into(), screens: vec![screen], token: None }
    }

    fn offered(action: Action) -> Vec<String> {
        let of = Interactive::new("Which?", action);
        shown(&of, None, "0a1b2c3d", None).lines().map(str::to_owned).collect()
    }

    #[test]
    fn choices_are_numbered_and_what_only_leads_somewhere_is_not() {
        let buttons = vec![
            reply("y", "Yes"),
            Button::Url { title: "Page".into(), url: "https://shop.example/".into() },
            Button::Phone { title: "Call".into(), number: "+49 30".into() },
            Button::Copy { title: "Code".into(), code: "4417".into() },
            reply("n", "No"),
        ];
        let rows = offered(Action::Buttons(buttons));
        let links = ["  → Page: https://shop.example/", "  ☎ Call: +49 30", "  ⧉ Code: 4417"];
        assert_eq!(rows[..2], ["Which?", "  1 Yes"]);
        assert_eq!(rows[2..5], links);
        assert_eq!(rows[5..], ["  2 No", "/choose 0a1b2c3d N"]);
        let rows = offered(list());
        assert_eq!(rows[1..], ["Africa:", "  1 YIRGA · jasmine", "  2 KENYA", "  3 HUILA", "/choose 0a1b2c3d N"]);
        let rows = offered(products());
        assert_eq!(rows[1..4], ["Coffee:", "  1 BEANS · 12.50 EUR", "  2 MUG · 18.005 EUR"]);
        assert_eq!(offered(Action::Nothing), ["Which?"], "there is nothing to do");
        assert!(offered(Action::Location)[1].contains("/location LAT LON"));
        assert!(offered(Action::Form(form(FormKind::Flow, vec![])))[1].contains("Fill in · /form 0a1b2c3d"));
    }

    #[test]
    fn what_surrounds_the_text_is_there() {
        let mut of = Interactive::new("Half the price", Action::Nothing);
        of.header = Some(Header::Text("Today".into()));
        of.footer = Some("Until six".into());
        of.template = Some(TemplateName { name: "x".into(), language: "en".into(), category: Category::Marketing });
        let text = shown(&of, None, "0a1b2c3d", None);
        assert_eq!(text, "[message template · marketing]\nToday\nHalf the price\n(Until six)");
    }

    #[test]
    fn a_number_chooses_and_nothing_else_does() {
        let buttons = Action::Buttons(vec![reply("y", "Yes"), reply("n", "No")]);
        assert_eq!(chosen(&buttons, " 2 "), Ok(Answer::Button { id: "n".into(), title: "No".into() }));
        for wrong in ["", "0", "3", "Yes", "1 2", "1x2", "-1", "99999999999999999999"] {
            assert!(chosen(&buttons, wrong).is_err(), "{wrong}");
        }
        let row = Answer::Row { id: "yirga".into(), title: "YIRGA".into(), description: Some("jasmine".into()) };
        assert_eq!(chosen(&list(), "1"), Ok(row));
        let order = |items: &[(&str, u32)]| {
            let items = items.iter().map(|(id, quantity)| Ordered { id: (*id).into(), quantity: *quantity }).collect();
            Ok(Answer::Order { items, text: String::new() })
        };
        assert_eq!(chosen(&products(), "2"), order(&[("mug", 1)]));
        assert_eq!(chosen(&products(), "1x3 2x99"), order(&[("beans", 3), ("mug", 99)]));
        for wrong in ["", "1x0", "1x100", "1 1x2", "3", "1x"] {
            assert!(chosen(&products(), wrong).is_err(), "{wrong}");
        }
        // The engine judges it by the same rules.
        let of = Interactive::new("Which?", products());
        assert!(chosen(&of.action, "1x3 2x99").is_ok_and(|answer| of.offers(&answer)));
    }

    #[test]
    fn a_form_is_asked_field_by_field_and_what_is_wrong_again() {
        let mut floor = field("floor", FieldKind::Number, false);
        floor.value = Some("2".into());
        let fields = vec![
            field("street", FieldKind::Text, true),
            floor,
            field("time", FieldKind::One, true),
            field("extra", FieldKind::Some, false),
            field("terms", FieldKind::Yes, true),
        ];
        let of = Interactive::new("Where?", Action::Form(form(FormKind::Flow, fields.clone())));
        let message = MessageId::new([7; 32]);
        let mut filling = Filling::begin(message, &form(FormKind::Flow, fields));
        let mut say = |line: &str| (filling.answer(line).is_ok(), filling.question());
        assert_eq!(say(" "), (false, "1/5 STREET:".into()));
        assert_eq!(say("Canal Street 5"), (true, "2/5 FLOOR:, empty for 2".into()));
        assert!(!say("second").0);
        assert_eq!(say(""), (true, "3/5 TIME: a number\n1 The a · 2 The b".into()));
        assert!(!say("3").0);
        assert_eq!(say("the B"), (true, "4/5 EXTRA: numbers, may be empty\n1 The a · 2 The b".into()));
        assert!(!say("1, 9").0);
        assert_eq!(say("2, 1 2"), (true, "5/5 TERMS: y or n".into()));
        assert!(!say("n").0, "the terms must be agreed to");
        assert_eq!(filling.done(), None);
        assert_eq!(filling.answer("yes"), Ok(()));
        let value = |name: &str, values: &[&str]| FieldValue {
            name: name.into(),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        };
        let values = vec![
            value("street", &["Canal Street 5"]),
            value("floor", &["2"]),
            value("time", &["b"]),
            value("extra", &["b", "a"]),
            value("terms", &["true"]),
        ];
        let answer = Answer::Form { values };
        assert!(of.offers(&answer), "the engine takes it");
        let text = answered(&answer, Some(&of));
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "✓ form filled in",
                "STREET: Canal Street 5",
                "FLOOR: 2",
                "TIME: The b",
                "EXTRA: The b, The a",
                "TERMS: yes"
            ]
        );
        assert_eq!(filling.done(), Some(Draft::Answer { to: message, answer }));
        assert_eq!(format!("{filling:?}"), "Filling(5 of 5 fields)");
    }

    #[test]
    fn who_asks_how_one_is_reached_gets_a_card() {
        let fields = vec![field("name", FieldKind::Text, true), field("phone", FieldKind::Phone, true)];
        let message = MessageId::new([7; 32]);
        let mut filling = Filling::begin(message, &form(FormKind::Contact, fields));
        filling.answer("Ana").unwrap();
        filling.answer("+49 30 1234567").unwrap();
        let Some(Draft::Contacts { persons, reply_to }) = filling.done() else { panic!("no card") };
        assert_eq!(reply_to, Some(message));
        assert_eq!(person(&persons[0]), "Ana · +49 30 1234567");
    }

    #[test]
    fn places_and_prices_are_for_people() {
        let location = Location { name: Some("Café\u{202e}".into()), ..Location::at(52.517_036_5, -13.4).unwrap() };
        assert_eq!(place(&location), "Café · 52.51704, -13.40000");
        assert_eq!(price(12_500, "EUR"), "12.50 EUR");
        assert_eq!(price(5, "KWD"), "0.005 KWD");
    }
}
