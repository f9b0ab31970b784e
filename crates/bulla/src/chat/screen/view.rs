//! Which rows of a long history stand on the screen.
//!
//! The view either follows the newest row, or its first row is held by the entry that it belongs to, so that nothing moves under the reader
//! when messages arrive below, older pages are loaded above, or the window changes its size. Entries are laid out only where one looks.

use super::history::Key;

/// Where one looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// At the newest.
    Bottom,
    /// At this row of this entry, on top.
    From(Key, usize),
}

/// Rows in order, entry by entry: their keys, and how many rows each has.
pub(super) struct Rows<'a> {
    pub(super) keys: &'a [Key],
    pub(super) count: &'a dyn Fn(usize) -> usize,
}

/// A row: entry's index, row in it.
pub(super) type Place = (usize, usize);

impl Rows<'_> {
    /// The first row that is shown, and whether the last one of all is shown too.
    pub(super) fn first(&self, view: View, height: usize) -> (Place, bool) {
        let bottom = self.up((self.keys.len(), 0), height);
        let View::From(key, row) = view else { return (bottom, true) };
        let entry = self.keys.partition_point(|k| *k < key);
        // An entry that has gone (a marker): the next one. One that has become shorter: its last row.
        let row = match self.keys.get(entry) {
            Some(k) if *k == key => row.min((self.count)(entry).saturating_sub(1)),
            _ => 0,
        };
        let wanted = (entry, row);
        if wanted >= bottom { (bottom, true) } else { (wanted, false) }
    }

    /// The view after moving so many rows: down, or up if negative.
    pub(super) fn moved(&self, view: View, by: isize, height: usize) -> View {
        let (first, _) = self.first(view, height);
        let distance = by.unsigned_abs();
        let place = if by < 0 { self.up(first, distance) } else { self.down(first, distance) };
        self.at(place, height)
    }

    /// A view whose first row is this one, or the last one possible.
    pub(super) fn at(&self, place: Place, height: usize) -> View {
        let bottom = self.up((self.keys.len(), 0), height);
        match self.keys.get(place.0) {
            Some(key) if place < bottom => View::From(*key, place.1),
            _ => View::Bottom,
        }
    }

    /// A view that shows all of an entry, moved as little as possible; of one that is taller than the screen, its beginning.
    pub(super) fn showing(&self, view: View, key: Key, height: usize) -> View {
        let Ok(entry) = self.keys.binary_search(&key) else { return view };
        let (first, _) = self.first(view, height);
        let lowest = self.up((entry, (self.count)(entry)), height);
        if (entry, 0) < first || lowest > (entry, 0) {
            self.at((entry, 0), height)
        } else if lowest > first {
            self.at(lowest, height)
        } else {
            view
        }
    }

    fn up(&self, (mut entry, mut row): Place, mut by: usize) -> Place {
        while by > row {
            by -= row;
            if entry == 0 {
                return (0, 0);
            }
            entry -= 1;
            row = (self.count)(entry);
        }
        (entry, row - by)
    }

    fn down(&self, (mut entry, mut row): Place, by: usize) -> Place {
        row += by;
        while entry < self.keys.len() && row >= (self.count)(entry) {
            row -= (self.count)(entry);
            entry += 1;
        }
        (entry, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries 0, 1, 2 … with so many rows each.
    fn with<R>(counts: &[usize], f: impl FnOnce(&Rows<'_>) -> R) -> R {
        let keys: Vec<_> = (0..counts.len() as u64).map(Key::said).collect();
        f(&Rows { keys: &keys, count: &|i| counts[i] })
    }

    #[test]
    fn the_bottom_is_as_much_as_fits_from_the_end() {
        with(&[2, 3, 1], |rows| {
            assert_eq!(rows.first(View::Bottom, 2), ((1, 2), true));
            assert_eq!(rows.first(View::Bottom, 4), ((1, 0), true));
            assert_eq!(rows.first(View::Bottom, 6), ((0, 0), true));
            assert_eq!(rows.first(View::Bottom, 60), ((0, 0), true));
        });
        with(&[], |rows| assert_eq!(rows.first(View::Bottom, 5), ((0, 0), true)));
    }

    #[test]
    fn scrolling_holds_a_row_until_it_is_at_the_bottom_again() {
        with(&[2, 3, 1, 4], |rows| {
            let up = rows.moved(View::Bottom, -1, 3);
            assert_eq!(up, View::From(Key::said(3), 0));
            assert_eq!(rows.moved(up, 1, 3), View::Bottom);
            assert_eq!(rows.moved(up, -2, 3), View::From(Key::said(1), 2));
            assert_eq!(rows.moved(up, -100, 3), View::From(Key::said(0), 0));
            assert_eq!(rows.moved(up, 100, 3), View::Bottom);
            assert_eq!(rows.moved(View::Bottom, -100, 30), View::Bottom, "all of it is on the screen");
        });
    }

    #[test]
    fn what_is_held_stays_when_rows_are_added_on_both_sides() {
        let keys = |from: u64, to| (from..to).map(Key::said).collect::<Vec<_>>();
        let view = View::From(Key::said(5), 1);
        for (from, to) in [(5, 9), (1, 9), (1, 90)] {
            let keys = keys(from, to);
            let rows = Rows { keys: &keys, count: &|_| 2 };
            let ((entry, row), at_bottom) = rows.first(view, 3);
            assert_eq!((keys[entry], row, at_bottom), (Key::said(5), 1, false));
        }
        // It is gone: the next one.
        let without: Vec<_> = keys(1, 9).into_iter().filter(|k| *k != Key::said(5)).collect();
        let ((entry, row), _) = Rows { keys: &without, count: &|_| 2 }.first(view, 3);
        assert_eq!((without[entry], row), (Key::said(6), 0));
    }

    #[test]
    fn an_entry_is_brought_into_sight_by_the_shortest_way() {
        with(&[2, 3, 1, 4, 9], |rows| {
            let top = View::From(Key::said(0), 0);
            assert_eq!(rows.showing(top, Key::said(1), 5), top, "it is in sight");
            assert_eq!(rows.showing(top, Key::said(2), 5), View::From(Key::said(0), 1));
            assert_eq!(rows.showing(View::Bottom, Key::said(1), 5), View::From(Key::said(1), 0));
            assert_eq!(rows.showing(top, Key::said(4), 5), View::From(Key::said(4), 0), "too tall: its beginning");
        });
    }
}
