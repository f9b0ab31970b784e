//! Messages to choose from, and what is chosen.

use bulla_client::endpoint::CommandError;
use bulla_client::event::{ConversationState, Draft, Shown};
use bulla_e2ee::content::{
    Action, Answer, Button, Field, FieldKind, FieldValue, Form, FormKind, Interactive, List, Location, Name, Ordered,
    Person, Product, Products, Row, Screen, Section,
};

use crate::world::World;

fn reply(id: &str, title: &str) -> Button {
    Button::Reply { id: id.into(), title: title.into() }
}

fn field(name: &str, kind: FieldKind, required: bool) -> Field {
    Field {
        name: name.into(),
        label: name.into(),
        kind,
        required,
        options: Vec::new(),
        hint: None,
        value: None,
        min: None,
        max: Some(40),
    }
}

/// What is offered, what can be chosen of it, and what cannot.
fn offers() -> Vec<(Action, Vec<Answer>, Vec<Answer>)> {
    let button = |id: &str, title: &str| Answer::Button { id: id.into(), title: title.into() };
    let row = |id: &str, description: Option<&str>| Answer::Row {
        id: id.into(),
        title: "Rosetta".into(),
        description: description.map(str::to_owned),
    };
    let rows = vec![Row { id: "r".into(), title: "Rosetta".into(), description: Some("with foam".into()) }];
    let list = List { button: "Choose".into(), sections: vec![Section { title: String::new(), rows }] };
    let fields = vec![field("name", FieldKind::Text, true), field("mail", FieldKind::Email, false)];
    let screens = vec![Screen { title: "You".into(), text: None, fields, button: "Send".into() }];
    let form = Form { kind: FormKind::Flow, button: "Fill in".into(), screens, token: Some("t".into()) };
    let filled = |values: &[(&str, &str)]| Answer::Form {
        values: values.iter().map(|(n, v)| FieldValue { name: (*n).into(), values: vec![(*v).into()] }).collect(),
    };
    let product = Product {
        id: "beans".into(),
        name: "Beans".into(),
        description: None,
        price: 8_500,
        currency: "EUR".into(),
        section: None,
    };
    let products = Products { catalog: "c".into(), button: "Look".into(), items: vec![product] };
    let order =
        |id: &str, quantity| Answer::Order { items: vec![Ordered { id: id.into(), quantity }], text: String::new() };
    vec![
        (
            Action::Buttons(vec![reply("y", "Yes"), reply("n", "No")]),
            vec![button("n", "No")],
            vec![button("y", "No"), button("x", "Yes"), row("y", None), order("y", 1)],
        ),
        (Action::List(list), vec![row("r", Some("with foam"))], vec![row("r", None), row("q", Some("with foam"))]),
        (
            Action::Form(form),
            vec![filled(&[("name", "Zoë")]), filled(&[("name", "Zoë"), ("mail", "zoe@example.org")])],
            vec![
                filled(&[]),
                filled(&[("name", " ")]),
                filled(&[("name", "Zoë"), ("mail", "zoe")]),
                filled(&[("name", "Zoë"), ("age", "7")]),
                filled(&[("name", "Zoë"), ("name", "Ada")]),
                filled(&[("name", &"x".repeat(41))]),
            ],
        ),
        (
            Action::Products(products),
            vec![order("beans", 2)],
            vec![order("beans", 0), order("beans", 100), order("cups", 1)],
        ),
        (Action::Nothing, vec![], vec![button("y", "Yes")]),
    ]
}

#[tokio::test]
async fn what_is_offered_can_be_chosen_and_nothing_else() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut phone, at_phone) = world.customer("Zoë", &link).await;
    phone.endpoint.send(at_phone.id, Draft::Text { body: "hello".into(), reply_to: None }).await.unwrap();
    let at_shop = cortado.incoming().await.conversation;
    phone.state(ConversationState::Open).await;
    for (action, good, bad) in offers() {
        let offered = Interactive { footer: Some("small".into()), ..Interactive::new("what would you like?", action) };
        let draft = Draft::Interactive { interactive: Box::new(offered.clone()), reply_to: None };
        cortado.endpoint.send(at_shop, draft).await.unwrap();
        let shown = phone.incoming().await;
        assert_eq!(shown.shown, Shown::Interactive(Box::new(offered), None));
        assert!(!shown.breach);
        for answer in bad {
            let refused = phone.endpoint.send(at_phone.id, Draft::Answer { to: shown.id, answer }).await;
            assert!(matches!(refused, Err(CommandError::NotOffered)), "{refused:?}");
        }
        for answer in good {
            phone.endpoint.send(at_phone.id, Draft::Answer { to: shown.id, answer: answer.clone() }).await.unwrap();
            let heard = cortado.incoming().await;
            assert_eq!((heard.shown, heard.reply_to), (Shown::Answer(answer), Some(shown.id)));
        }
        // It is the business that offers, and not to itself.
        let own = Draft::Answer { to: shown.id, answer: Answer::Form { values: Vec::new() } };
        assert!(matches!(cortado.endpoint.send(at_shop, own).await, Err(CommandError::NotOffered)));
    }
    let offer = Interactive::new("buy!", Action::Buttons(vec![reply("y", "Yes")]));
    let refused =
        phone.endpoint.send(at_phone.id, Draft::Interactive { interactive: Box::new(offer), reply_to: None }).await;
    assert!(matches!(refused, Err(CommandError::WrongRole)), "{refused:?}");
    let empty =
        Draft::Interactive { interactive: Box::new(Interactive::new("x", Action::Buttons(vec![]))), reply_to: None };
    assert!(matches!(cortado.endpoint.send(at_shop, empty).await, Err(CommandError::NotFitting)));
}

#[tokio::test]
async fn places_and_persons_go_both_ways() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut phone, at_phone) = world.customer("Zoë", &link).await;
    let place = Location { name: Some("here".into()), ..Location::at(48.137_154_3, -11.576_124).unwrap() };
    phone.endpoint.send(at_phone.id, Draft::Location { location: place.clone(), reply_to: None }).await.unwrap();
    let heard = cortado.incoming().await;
    assert_eq!(heard.shown, Shown::Location(place.clone()));
    let (north, east) = place.degrees();
    assert!((north - 48.137_154_3).abs() < 1e-9 && (east + 11.576_124).abs() < 1e-9);
    phone.state(ConversationState::Open).await;
    let name = Name { formatted_name: Some("Rosi".into()), ..Name::default() };
    let rosi = Person { name, ..Person::default() };
    let draft = Draft::Contacts { persons: vec![rosi.clone()], reply_to: Some(heard.id) };
    cortado.endpoint.send(heard.conversation, draft).await.unwrap();
    let shown = phone.incoming().await;
    assert_eq!((shown.shown, shown.reply_to), (Shown::Contacts(vec![rosi]), Some(heard.id)));
    let nobody = Draft::Contacts { persons: vec![Person::default()], reply_to: None };
    assert!(matches!(cortado.endpoint.send(heard.conversation, nobody).await, Err(CommandError::NotFitting)));
}
