//! Contents to choose from, and what is chosen, as bytes: what is encoded decodes to the same, and what is not whole or too much is refused.

use bulla_e2ee::attachment::AttachmentKey;
use bulla_e2ee::content::{
    Action, Answer, Attachment, Body, Button, Category, Content, ContentError, Field, FieldKind, FieldOption,
    FieldValue, Form, FormKind, Header, Interactive, List, Location, MessageId, Name, Ordered, Person, Phone, Preview,
    Product, Products, Row, Screen, Section, TemplateName,
};
use bulla_protocol::id::BlobId;
use proptest::prelude::*;

fn file(preview: bool) -> Attachment {
    Attachment {
        blob: BlobId::new([1; 16]),
        key: AttachmentKey::from_bytes([2; 32]),
        size: 9,
        digest: [3; 32],
        media_type: "image/png".into(),
        name: "menu.png".into(),
        expires: 7,
        caption: String::new(),
        preview: preview.then(|| Preview { media_type: "image/webp".into(), bytes: vec![4; 30] }),
    }
}

/// Chance from a seed (xorshift64): what is private has no `Debug`, and so is made here and not by strategies.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn text(&mut self, least: u64, most: u64) -> String {
        let letters: Vec<char> = "ab yz09.-äß👋\"\\{$".chars().collect();
        let len = least + self.below(most - least + 1);
        (0..len).map(|_| letters[self.below(letters.len() as u64) as usize]).collect()
    }

    fn title(&mut self) -> String {
        format!("x{}", self.text(0, 15))
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self, u64) -> T) -> Vec<T> {
        (0..=self.below(most)).map(|n| make(self, n)).collect()
    }

    fn button(&mut self) -> Button {
        let title = self.title();
        match self.below(4) {
            0 => Button::Reply { id: self.text(0, 30), title },
            1 => Button::Url { title, url: format!("https://shop.example/{}", self.below(99)) },
            2 => Button::Phone { title, number: "+49 89 1".into() },
            _ => Button::Copy { title, code: self.text(0, 15) },
        }
    }

    fn field(&mut self, n: u64) -> Field {
        use FieldKind::{Area, Date, Email, Number, One, Phone, Some as Many, Text, Yes};
        let kind = [Text, Area, Number, Email, Phone, Date, One, Many, Yes][self.below(9) as usize];
        let choice = matches!(kind, One | Many);
        let options =
            if choice { self.some(5, |d, n| FieldOption { id: n.to_string(), title: d.title() }) } else { Vec::new() };
        Field {
            name: format!("f{n}"),
            label: self.text(0, 20),
            kind,
            required: self.below(2) == 0,
            options,
            hint: self.maybe(Self::title),
            value: self.maybe(Self::title),
            min: self.maybe(|d| d.below(9) as u32),
            max: self.maybe(|d| d.below(9_000_000) as u32),
        }
    }

    fn action(&mut self) -> Action {
        match self.below(6) {
            0 => Action::Nothing,
            1 => Action::Location,
            2 => Action::Buttons(self.some(10, |d, _| d.button())),
            3 => {
                let rows = self.some(10, |d, n| Row {
                    id: n.to_string(),
                    title: d.title(),
                    description: d.maybe(Self::title),
                });
                let sections = vec![Section { title: self.text(0, 9), rows }];
                Action::List(List { button: self.title(), sections })
            }
            4 => {
                let fields = self.some(9, Self::field);
                let screens = vec![Screen {
                    title: self.text(0, 9),
                    text: self.maybe(Self::title),
                    fields,
                    button: self.title(),
                }];
                Action::Form(Form {
                    kind: FormKind::Flow,
                    button: self.title(),
                    screens,
                    token: self.maybe(Self::title),
                })
            }
            _ => {
                let items = self.some(30, |d, n| Product {
                    id: n.to_string(),
                    name: d.title(),
                    description: d.maybe(Self::title),
                    price: d.below(u64::MAX),
                    currency: "EUR".into(),
                    section: d.maybe(Self::title),
                });
                Action::Products(Products { catalog: self.text(0, 9), button: self.title(), items })
            }
        }
    }

    fn interactive(&mut self) -> Interactive {
        let template = TemplateName { name: "spring".into(), language: "en_US".into(), category: Category::Marketing };
        Interactive {
            header: self.maybe(|d| Header::Text(d.title())),
            body: self.text(1, 200),
            footer: self.maybe(Self::title),
            action: self.action(),
            template: self.maybe(|_| template),
            file: self.maybe(|d| file(d.below(2) == 0)),
        }
    }

    fn body(&mut self) -> Body {
        match self.below(9) {
            0 => Body::Answer(Answer::Button { id: self.title(), title: self.title() }),
            1 => Body::Answer(Answer::Row {
                id: self.title(),
                title: self.title(),
                description: self.maybe(Self::title),
            }),
            2 => {
                let values =
                    self.some(9, |d, _| FieldValue { name: d.title(), values: d.some(4, |d, _| d.text(0, 40)) });
                Body::Answer(Answer::Form { values })
            }
            3 => {
                let items = self.some(5, |d, n| Ordered { id: n.to_string(), quantity: d.below(100) as u32 });
                Body::Answer(Answer::Order { items, text: self.text(0, 40) })
            }
            4 => {
                let (north, east) = (self.below(180_000) as f64 / 1e3 - 90.0, self.below(360_000) as f64 / 1e3 - 180.0);
                Body::Location(Location { name: self.maybe(Self::title), ..Location::at(north, east).unwrap() })
            }
            5 => Body::Contacts(self.some(5, |d, _| Person {
                name: Name { formatted_name: Some(d.title()), ..Name::default() },
                phones: d.some(3, |d, _| Phone { phone: Some(d.title()), kind: d.maybe(Self::title), wa_id: None }),
                birthday: d.maybe(Self::title),
                ..Person::default()
            })),
            6 => Body::Consent(self.some(200, |d, _| d.below(256) as u8)),
            _ => Body::Interactive(Box::new(self.interactive())),
        }
    }
}

fn any_body() -> impl Strategy<Value = Body> {
    any::<u64>().prop_map(|seed| Dice(seed | 1).body())
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same_and_nothing_less(body in any_body()) {
        let content = Content::new([7; 16], body).in_reply_to(MessageId::new([9; 32]));
        let bytes = content.encode().unwrap();
        let decoded = Content::decode(&bytes).unwrap();
        prop_assert!(decoded == content);
        prop_assert_eq!(decoded.encode().unwrap(), bytes.clone());
        for len in (0..bytes.len()).step_by(1 + bytes.len() / 256) {
            prop_assert!(Content::decode(&bytes[..len]).is_err(), "{} of {}", len, bytes.len());
        }
    }

    /// MLS-02: one byte is another. What is accepted encodes again.
    #[test]
    fn mls_02_mutated_choices_are_contents_or_errors(body in any_body(), index: prop::sample::Index, byte: u8) {
        let mut bytes = Content::new([7; 16], body).in_reply_to(MessageId::new([9; 32])).encode().unwrap();
        let index = index.index(bytes.len());
        bytes[index] = byte;
        if let Ok(content) = Content::decode(&bytes) {
            prop_assert!(content.encode().is_ok());
        }
    }
}

/// An answer belongs to a message: without one it is nothing that is known here.
#[test]
fn an_answer_to_nothing_is_none() {
    let answer = Body::Answer(Answer::Button { id: "y".into(), title: "Yes".into() });
    let bytes = Content::new([7; 16], answer).encode().unwrap();
    assert!(matches!(Content::decode(&bytes).unwrap().body, Body::Unsupported { .. }));
}

#[test]
fn mls_12_what_can_be_chosen_from_is_bounded_at_n_and_n_plus_1() {
    let encodes = |action: Action| {
        Content::new([7; 16], Body::Interactive(Box::new(Interactive::new("x", action)))).encode().map(drop)
    };
    let reply = |n: usize| Button::Reply { id: n.to_string(), title: n.to_string() };
    let row = |n: usize| Row { id: n.to_string(), title: n.to_string(), description: None };
    let field = |n: usize| Field {
        name: format!("f{n}"),
        label: "F".into(),
        kind: FieldKind::Text,
        required: false,
        options: Vec::new(),
        hint: None,
        value: None,
        min: None,
        max: None,
    };
    let buttons = |n: usize| Action::Buttons((0..n).map(reply).collect());
    let rows = |n: usize| {
        let sections = vec![Section { title: String::new(), rows: (0..n).map(row).collect() }];
        Action::List(List { button: "Open".into(), sections })
    };
    let fields = |n: usize| {
        let fields = (0..n).map(field).collect();
        let screens = vec![Screen { title: "T".into(), text: None, fields, button: "Send".into() }];
        Action::Form(Form { kind: FormKind::Flow, button: "Open".into(), screens, token: None })
    };
    for (of, most) in [(&buttons as &dyn Fn(usize) -> Action, 10), (&rows, 10), (&fields, 50)] {
        assert_eq!(encodes(of(most)), Ok(()));
        assert_eq!(encodes(of(most + 1)), Err(ContentError::Limit));
    }
    assert_eq!(encodes(buttons(0)), Err(ContentError::Limit));
    let to = |url: &str| encodes(Action::Buttons(vec![Button::Url { title: "Open".into(), url: url.into() }]));
    assert_eq!(to("https://shop.example/"), Ok(()));
    assert_eq!(to("javascript:alert(1)"), Err(ContentError::Limit), "DEV-03");
    // A peer that does not keep the limit is refused as well.
    let mut wide =
        Content::new([7; 16], Body::Interactive(Box::new(Interactive::new("x", buttons(10))))).encode().unwrap();
    let at = wide.windows(2).position(|pair| pair == [0x8a, 0x82]).unwrap();
    wide[at] = 0x8b;
    assert!(Content::decode(&wide).is_err());
}
