//! Opens a business's folder: its key, its store, its account. The first time, it makes all three.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use bulla_client::store::sqlite::SqliteStore;
use bulla_client::store::tx::{Rng, Tx};
use bulla_client::store::vault::{RootKey, Vault};
use bulla_client::store::{Store as _, StoreError, keyfile};

use crate::account::Account;
use crate::backup;
use crate::entropy::Entropy;
use crate::gateway::ServeError;
use crate::push::message::PushKey;
use crate::secret::Secret;
use crate::store::facts;

/// The file that makes a folder a business's.
pub(crate) const KEY: &str = "gateway.key";

/// A business that is about to be served.
pub(crate) struct Opened {
    pub(crate) store: SqliteStore,
    pub(crate) root: RootKey,
    pub(crate) account: Account,
    pub(crate) push_key: PushKey,
    /// From a backup, and not started since.
    pub(crate) restored: bool,
}

/// What is decided anew at every start.
pub(crate) struct Start<'a> {
    /// `Some`: the business's name; `None`: the one it has.
    pub(crate) name: Option<&'a str>,
    pub(crate) passphrase: Option<&'a Secret>,
    pub(crate) webhook: Option<&'a str>,
    pub(crate) now_ms: u64,
}

/// A handle that can also be a folder's name: nothing that leads out of the data folder, nothing hidden.
pub(crate) fn is_handle(handle: &str) -> bool {
    bulla_e2ee::link::is_handle(handle) && !handle.starts_with('.')
}

/// Makes a folder for its owner's eyes only.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The businesses in a data folder, and those to be made: handle and, if it is said, name.
pub(crate) fn handles(
    data: &Path,
    wanted: &[crate::config::NewBusiness],
) -> Result<BTreeMap<String, Option<String>>, ServeError> {
    let fail = |cause| ServeError::Folder { folder: data.to_owned(), cause };
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(data).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if is_handle(&name) && entry.path().join(KEY).is_file() {
            all.insert(name, None);
        }
    }
    for business in wanted {
        if !is_handle(&business.handle) {
            return Err(ServeError::Handle(business.handle.clone()));
        }
        all.insert(business.handle.clone(), Some(business.name.clone()));
    }
    if all.is_empty() { Err(ServeError::NoBusiness(data.to_owned())) } else { Ok(all) }
}

/// Opens or makes a business. Blocks: key stretching, fsync. `taken` are the ids of other businesses of this process.
pub(crate) async fn open(
    folder: &Path,
    handle: &str,
    start: &Start<'_>,
    taken: &[String],
    entropy: &Entropy,
) -> Result<Opened, StoreError> {
    make_folder(folder)
        .map_err(|e| StoreError::Backend { place: folder.display().to_string(), cause: e.to_string() })?;
    let mut store = SqliteStore::open(folder)?;
    let mut rng = entropy.clone();
    let root = keyfile::load_or_create(&folder.join(KEY), start.passphrase.map(Secret::expose), &mut rng)?;
    let vault = Vault::new(root.clone());
    let rng: RefCell<Rng> = RefCell::new(Box::new(rng));
    let (account, push_key, batch) = {
        let mut tx = Tx::new(&store, &vault, &rng, start.now_ms);
        let account = account(&mut tx, handle, start, taken, entropy)?;
        let push_key = push_key(&mut tx, entropy)?;
        (account, push_key, tx.into_batch()?)
    };
    store.commit(batch).await?;
    Ok(Opened { store, root, account, push_key, restored: backup::is_restored(folder) })
}

fn account(
    tx: &mut Tx<'_>,
    handle: &str,
    start: &Start<'_>,
    taken: &[String],
    entropy: &Entropy,
) -> Result<Account, StoreError> {
    let stored = facts::account(tx)?;
    let account = match (stored, start.name) {
        (Some(stored), Some(name)) if stored.name != name => {
            let account = Account { name: name.to_owned(), ..stored };
            facts::set_account(tx, &account)?;
            account
        }
        (Some(stored), _) => stored,
        (None, name) => {
            let name = name.unwrap_or(handle).to_owned();
            let (account, token) = Account::generate(handle.to_owned(), name, taken, entropy);
            facts::set_account(tx, &account)?;
            facts::set_token(tx, &token)?;
            account
        }
    };
    let before = facts::targets(tx)?;
    let mut targets = before.clone();
    targets.configure(start.webhook, &account.verify_token);
    if targets != before {
        facts::set_targets(tx, &targets)?;
    }
    Ok(account)
}

/// Made once: devices subscribe with it.
fn push_key(tx: &mut Tx<'_>, entropy: &Entropy) -> Result<PushKey, StoreError> {
    if let Some(stored) = facts::push_key(tx)? {
        return PushKey::from_stored(&stored).ok_or(StoreError::Format { table: crate::store::FACTS });
    }
    let key = PushKey::generate(entropy);
    facts::set_push_key(tx, &key.to_stored())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NewBusiness;

    const START: Start<'static> = Start { name: Some("Shop"), passphrase: None, webhook: None, now_ms: 1 };

    #[tokio::test]
    async fn an_account_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let entropy = Entropy::new(Box::new(rand_core::OsRng));
        let path = folder.path().join("shop");
        let first = open(&path, "shop", &START, &[], &entropy).await.unwrap();
        let ids: Vec<String> = first.account.ids().into_iter().cloned().collect();
        let push_key = first.push_key.public();
        drop(first.store);
        let renamed = Start { name: Some("New"), ..START };
        let again = open(&path, "shop", &renamed, &[], &entropy).await.unwrap();
        assert_eq!(again.account.ids().into_iter().cloned().collect::<Vec<_>>(), ids);
        assert_eq!(again.account.name, "New");
        assert_eq!(again.push_key.public(), push_key);
        drop(again.store);
        let unnamed = Start { name: None, ..START };
        assert_eq!(open(&path, "shop", &unnamed, &[], &entropy).await.unwrap().account.name, "New");
    }

    #[test]
    fn businesses_are_found_by_their_folders() {
        let data = tempfile::tempdir().unwrap();
        assert!(matches!(handles(data.path(), &[]), Err(ServeError::NoBusiness(_))));
        for (folder, key) in [("shop", true), ("other", false), (".hidden", true), ("BAD", true)] {
            std::fs::create_dir(data.path().join(folder)).unwrap();
            if key {
                std::fs::write(data.path().join(folder).join(KEY), "").unwrap();
            }
        }
        let wanted = NewBusiness { handle: "cafe".into(), name: "Café".into() };
        let all = handles(data.path(), &[wanted]).unwrap();
        let expected = [("cafe".to_owned(), Some("Café".to_owned())), ("shop".to_owned(), None)];
        assert_eq!(all.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_handle_never_leads_out_of_the_data_folder() {
        let data = tempfile::tempdir().unwrap();
        for handle in ["", ".", "..", ".x", "a/b", "../x", "A", "a b", "a\0", &"a".repeat(65)] {
            let wanted = NewBusiness { handle: handle.into(), name: "x".into() };
            assert!(matches!(handles(data.path(), &[wanted]), Err(ServeError::Handle(_))), "{handle}");
        }
    }
}
