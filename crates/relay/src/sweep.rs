//! What time does to a relay: envelopes past their last day go and leave a gap, slots and blobs past theirs go, mailboxes of owners who never come back go too.
//!
//! Envelopes are found through the index of days, so that a sweep reads only what is about to go. A reader also looks at the day of what it is about
//! to deliver; whoever comes first removes the row.

use std::sync::Arc;

use bulla_protocol::limits::MAILBOX_MONTHS;

use crate::blobs::{Change, Outcome};
use crate::limits;
use crate::mailbox::{Mailbox, Shared};
use crate::registry::Registry;
use crate::sabotage::{Rule, broken};
use crate::server::Relay;
use crate::store::{Page, Write};
use crate::writer::Unavailable;

const PAGE: Page = Page { rows: limits::PAGE_ROWS, bytes: limits::PAGE_BYTES };

/// Removes everything whose time is over, by the given clock.
pub(crate) async fn sweep(relay: &Relay) -> Result<(), Unavailable> {
    let (registry, shared, clock) = (relay.registry(), relay.shared(), relay.clock());
    let today = clock.day() + u32::from(broken(Rule::LastDayCounts));
    loop {
        let days = registry.read(move |store| store.days_before(today, limits::SWEEP_STEP)).await?;
        if days.is_empty() {
            break;
        }
        for (day, id) in days {
            if let Some(mailbox) = registry.get(&id).await? {
                sweep_mailbox(registry, &mailbox, today).await?;
            }
            shared.writer.write(vec![Write::DropDay(day, id)]).await?;
        }
    }
    // Only what has no rows any more: a gap was counted for each.
    registry.read(move |store| store.destroy_keys(today)).await?;
    sweep_slots(registry, shared, today).await?;
    sweep_blobs(relay, today).await?;
    sweep_owners(registry, clock.month()).await
}

/// Destroys the keys of backlogs that were acknowledged.
pub(crate) async fn destroy_backlog_keys(relay: &Relay) -> Result<(), Unavailable> {
    relay.registry().read(|store| store.destroy_keys(0)).await.map(drop)
}

async fn sweep_slots(registry: &Registry, shared: &Shared, today: u32) -> Result<(), Unavailable> {
    let mut after = None;
    loop {
        let mut over = registry.read(move |store| store.slots(after.as_ref(), limits::SWEEP_STEP)).await?;
        over.retain(|entry| entry.day < today);
        let Some(last) = over.last() else { return Ok(()) };
        after = Some(*last);
        // Decided by the writer: one of them may be claimed anew meanwhile.
        shared.writer.forget(over).await?;
    }
}

async fn sweep_blobs(relay: &Relay, today: u32) -> Result<(), Unavailable> {
    let mut after = None;
    loop {
        let mut over = relay.registry().read(move |store| store.blobs(after.as_ref(), limits::SWEEP_STEP)).await?;
        over.retain(|entry| entry.day < today);
        let Some(last) = over.last() else { return Ok(()) };
        after = Some(*last);
        for entry in over {
            // Decided by the writer: it may have been extended meanwhile.
            if relay.shared().writer.blob(Change::Forget(entry), today).await? == Outcome::Done
                && let Err(error) = relay.blobs().files.remove(&entry.blob).await
            {
                tracing::error!(%error, "the files of a blob that is over cannot be removed; the next start tries again");
            }
        }
    }
}

async fn sweep_mailbox(registry: &Registry, mailbox: &Arc<Mailbox>, today: u32) -> Result<(), Unavailable> {
    let mut from = 0;
    while let Some((orders, removals)) = mailbox.sweep_from(from) {
        let id = *mailbox.id();
        let rows = registry.read(move |store| store.rows(&id, orders, PAGE)).await?;
        let Some((last, _)) = rows.last() else { break };
        let next = last + 1;
        if mailbox.sweep(removals, &rows, today) {
            from = next;
        }
    }
    Ok(())
}

async fn sweep_owners(registry: &Arc<Registry>, month: u32) -> Result<(), Unavailable> {
    let mut after = None;
    loop {
        let found = registry.read(move |store| store.mailboxes(after.as_ref(), limits::SWEEP_STEP)).await?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        after = Some(*last);
        for (id, renewed) in found {
            // More than so many months lie between: the one of the last renewal may have been just over.
            if month.saturating_sub(renewed) > MAILBOX_MONTHS
                && let Some(mailbox) = registry.get(&id).await?
                && !mailbox.renew_if_held(month)
            {
                tracing::debug!(mailbox = ?id, "not renewed for too long, deleted");
                registry.delete(&mailbox).await.map_err(|_| Unavailable)?;
            }
        }
    }
}
