//! What was said before a device came: asked for by a customer's device, answered by the business out of its store, page by page.
//!
//! `[1, 0, id: uint, from: bstr, most: uint]` asks for at most so many messages, newest first, from a place that an answer named, or from the newest
//! (empty). `[1, 1, id: uint, next: bstr, [* item]]` answers; where `next` is empty, there is nothing older.
//! `item = [by: uint 1 business / 2 customer, content: bstr, at: uint Unix ms, read: bool, edited: tstr / null, [* [by, content: bstr]]]`.
//!
//! No ids are in it: an id is made of the content, and the reader makes it. What became of a message (its newest text, the reactions that stand)
//! is beside it, so that a page needs no other; what was deleted is not in it.

use crate::cbor::{self, Malformed, Writer};
use crate::certificate::Role;
use crate::content::ContentError;
use crate::content::part::Body;
use crate::limits;

const VERSION: u64 = 1;
const ASKS: u64 = 0;
const ANSWERS: u64 = 1;

/// Asks for what was said before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryRequest {
    /// Its answer has it too.
    pub id: u64,
    /// [`HistoryPage::next`] of the page before; empty for the newest.
    pub from: Vec<u8>,
    /// How many messages at most.
    pub most: u64,
}

/// A page of what was said, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryPage {
    /// The request's.
    pub id: u64,
    /// Where it goes on; empty where there is nothing older.
    pub next: Vec<u8>,
    /// Messages, newest first.
    pub items: Vec<HistoryItem>,
}

/// A message that was said, as the business has kept it.
#[derive(Clone, PartialEq, Eq)]
pub struct HistoryItem {
    /// Who said it.
    pub by: Role,
    /// Its exact content.
    pub content: Vec<u8>,
    /// When the business stored it, Unix ms.
    pub at_ms: u64,
    /// Whether whom it was for has read it.
    pub read: bool,
    /// The newest text, if it was edited.
    pub edited: Option<String>,
    /// Reactions that stand on it.
    pub reactions: Vec<HistoryReaction>,
}

/// A reaction that stands on a message.
#[derive(Clone, PartialEq, Eq)]
pub struct HistoryReaction {
    /// Whose.
    pub by: Role,
    /// Its exact content.
    pub content: Vec<u8>,
}

impl core::fmt::Debug for HistoryItem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HistoryItem({:?}, {} bytes)", self.by, self.content.len())
    }
}

impl core::fmt::Debug for HistoryReaction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HistoryReaction({:?})", self.by)
    }
}

impl HistoryItem {
    /// Bytes that it takes in a page, or a few more.
    #[must_use]
    pub fn size(&self) -> usize {
        const HEADS: usize = 32;
        let reactions: usize = self.reactions.iter().map(|r| r.content.len() + HEADS).sum();
        self.content.len() + self.edited.as_ref().map_or(0, String::len) + reactions + HEADS
    }

    fn fits(&self) -> bool {
        self.edited.as_ref().is_none_or(|text| text.len() <= limits::TEXT)
            && self.reactions.len() <= limits::HISTORY_REACTIONS
    }

    fn write(&self, w: Writer) -> Writer {
        let w = w.array(6).uint(self.by.to_wire()).bytes(&self.content).uint(self.at_ms).bool(self.read);
        let w = match &self.edited {
            Some(text) => w.text(text),
            None => w.null(),
        };
        let one = |w: Writer, r: &HistoryReaction| w.array(2).uint(r.by.to_wire()).bytes(&r.content);
        self.reactions.iter().fold(w.array(self.reactions.len()), one)
    }

    fn read(r: &mut cbor::Reader<'_>) -> Result<Self, Malformed> {
        let more = r.array(6)?;
        let (by, content) = (role(r)?, r.bytes(limits::HISTORY_BYTES)?.to_vec());
        let (at_ms, read) = (r.uint()?, r.bool()?);
        let edited = r.nullable(|r| Ok(r.text(limits::TEXT)?.to_owned()))?;
        let len = r.list_max(limits::HISTORY_REACTIONS)?;
        let reaction = |_| {
            let more = r.array(2)?;
            let reaction = HistoryReaction { by: role(r)?, content: r.bytes(limits::HISTORY_BYTES)?.to_vec() };
            r.skip_rest(more)?;
            Ok(reaction)
        };
        let reactions = (0..len).map(reaction).collect::<Result<_, Malformed>>()?;
        r.skip_rest(more)?;
        Ok(Self { by, content, at_ms, read, edited, reactions })
    }
}

fn role(r: &mut cbor::Reader<'_>) -> Result<Role, Malformed> {
    Role::from_wire(r.uint()?).ok_or(Malformed)
}

impl HistoryRequest {
    pub(crate) fn fits(&self) -> bool {
        self.from.len() <= limits::HISTORY_PLACE
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        Writer::new().array(5).uint(VERSION).uint(ASKS).uint(self.id).bytes(&self.from).uint(self.most).finish()
    }
}

impl HistoryPage {
    pub(crate) fn fits(&self) -> bool {
        self.next.len() <= limits::HISTORY_PLACE
            && self.items.len() <= limits::HISTORY_ITEMS
            && self.items.iter().all(HistoryItem::fits)
            && self.items.iter().map(HistoryItem::size).sum::<usize>() <= limits::HISTORY_BYTES
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let w = Writer::new().array(5).uint(VERSION).uint(ANSWERS).uint(self.id).bytes(&self.next);
        self.items.iter().fold(w.array(self.items.len()), |w, item| item.write(w)).finish()
    }
}

/// `None`: of a later version.
pub(crate) fn read(content: &[u8]) -> Result<Option<Body>, ContentError> {
    let mut r = cbor::Reader::new(content)?;
    let len = r.list()?;
    if len == 0 || r.uint()? != VERSION {
        return Ok(None);
    }
    let more = len.checked_sub(5).ok_or(ContentError::Malformed)?;
    let (kind, id) = (r.uint()?, r.uint()?);
    let place = r.bytes(limits::HISTORY_PLACE)?.to_vec();
    let body = match kind {
        ASKS => Body::HistoryRequest(HistoryRequest { id, from: place, most: r.uint()? }),
        ANSWERS => {
            let len = r.list_max(limits::HISTORY_ITEMS).map_err(|Malformed| ContentError::Limit)?;
            let items = (0..len).map(|_| HistoryItem::read(&mut r)).collect::<Result<Vec<_>, Malformed>>()?;
            let page = HistoryPage { id, next: place, items };
            if !page.fits() {
                return Err(ContentError::Limit);
            }
            Body::HistoryPage(page)
        }
        _ => return Ok(None),
    };
    r.skip_rest(more)?;
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use proptest::prelude::*;

    fn item(len: usize) -> HistoryItem {
        let reactions = vec![HistoryReaction { by: Role::Business, content: vec![2; 3] }];
        HistoryItem { by: Role::Customer, content: vec![1; len], at_ms: 5, read: true, edited: None, reactions }
    }

    fn content(page: HistoryPage) -> Content {
        Content::new([7; 16], Body::HistoryPage(page))
    }

    fn any_role() -> impl Strategy<Value = Role> {
        prop_oneof![Just(Role::Business), Just(Role::Customer)]
    }

    fn any_item() -> impl Strategy<Value = HistoryItem> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..50);
        let reaction = (any_role(), bytes()).prop_map(|(by, content)| HistoryReaction { by, content });
        let edited = proptest::option::of(".{0,20}");
        let reactions = proptest::collection::vec(reaction, 0..3);
        (any_role(), bytes(), any::<u64>(), any::<bool>(), edited, reactions).prop_map(
            |(by, content, at_ms, read, edited, reactions)| HistoryItem { by, content, at_ms, read, edited, reactions },
        )
    }

    proptest! {
        #[test]
        fn what_is_asked_and_answered_decodes_to_the_same(
            id: u64,
            most: u64,
            place in proptest::collection::vec(any::<u8>(), 0..=limits::HISTORY_PLACE),
            items in proptest::collection::vec(any_item(), 0..6),
        ) {
            let asks = Content::new([7; 16], Body::HistoryRequest(HistoryRequest { id, from: place.clone(), most }));
            let answers = content(HistoryPage { id, next: place, items });
            for content in [asks, answers] {
                let bytes = content.encode().unwrap();
                prop_assert_eq!(Content::decode(&bytes), Ok(content));
                for len in 0..bytes.len() {
                    prop_assert!(Content::decode(&bytes[..len]).is_err());
                }
            }
        }
    }

    #[test]
    fn mls_12_a_page_is_bounded_at_n_and_n_plus_1() {
        let page = |items: Vec<HistoryItem>| HistoryPage { id: 1, next: vec![0; limits::HISTORY_PLACE], items };
        let most = content(page(vec![item(10); limits::HISTORY_ITEMS]));
        assert_eq!(Content::decode(&most.encode().unwrap()), Ok(most));
        let largest = content(page(vec![item(limits::HISTORY_BYTES - 67)]));
        assert_eq!(Content::decode(&largest.encode().unwrap()), Ok(largest));
        let place = HistoryPage { next: vec![0; limits::HISTORY_PLACE + 1], ..HistoryPage::default() };
        let mut reactions = item(10);
        reactions.reactions = vec![reactions.reactions[0].clone(); limits::HISTORY_REACTIONS + 1];
        let edited = HistoryItem { edited: Some("x".repeat(limits::TEXT + 1)), ..item(10) };
        let over = [
            page(vec![item(10); limits::HISTORY_ITEMS + 1]),
            page(vec![item(limits::HISTORY_BYTES - 66)]),
            page(vec![reactions]),
            page(vec![edited]),
            place,
        ];
        for page in over {
            // Neither does this version say it, nor is it believed when another does.
            assert_eq!(content(page.clone()).encode(), Err(ContentError::Limit), "{page:?}");
            assert!(read(&page.encode()).is_err(), "{page:?}");
        }
    }

    #[test]
    fn what_a_later_version_asks_is_kept_as_unsupported() {
        let later = Writer::new().array(2).uint(2).uint(0).finish();
        assert_eq!(read(&later), Ok(None));
        let other_kind = Writer::new().array(5).uint(1).uint(9).uint(1).bytes(&[]).uint(1).finish();
        assert_eq!(read(&other_kind), Ok(None));
    }
}
