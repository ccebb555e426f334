//! Counters by numbers that names keep. An upstream and a backend keep their number, and their counters, for as long as a
//! generation of the config names them. Where a new name needs a number, a new book follows the one in use; what is still written
//! into an older one counts, and is carried over once nobody can write there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::Layout;
use super::cells::{Block, Cells};

/// Counters of every core, for one list of names.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) layout: Layout,
    pub(super) cells: Cells,
    /// One for each core, and one for what was carried over from the books before.
    blocks: Box<[Block]>,
}

impl Book {
    fn new(layout: Layout, cores: usize) -> Self {
        let cells = Cells::new(&layout);
        let blocks = (0..=cores).map(|_| Block::new(cells.len()));
        Book {
            blocks: blocks.collect(),
            layout,
            cells,
        }
    }

    /// The counters of one core.
    pub(super) fn block(&self, core: usize) -> &Block {
        &self.blocks[core % (self.blocks.len() - 1)]
    }

    fn total(&self, cell: usize) -> u64 {
        self.blocks.iter().map(|block| block.get(cell)).sum()
    }

    /// Calls `add` with every counter that stands for the same names in `later`: its place there, and what it has come to.
    fn carry(&self, later: &Book, mut add: impl FnMut(usize, u64)) {
        for (from, to, len) in
            Cells::shared((&self.layout, &self.cells), (&later.layout, &later.cells))
        {
            (0..len).for_each(|i| add(to + i, self.total(from + i)));
        }
    }
}

/// Numbers of an upstream and of its backends, for as long as this is held.
#[derive(Debug)]
pub struct Enrolled {
    books: Arc<Books>,
    /// The upstream's.
    pub upstream: usize,
    /// Those of its backends, in the order in which they were named.
    pub backends: Vec<usize>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.books.lock().release(self.upstream, &self.backends);
    }
}

/// The book in use and those before it.
#[derive(Debug)]
pub(super) struct Books {
    cores: usize,
    current: ArcSwap<Book>,
    register: Mutex<Register>,
}

#[derive(Debug)]
struct Register {
    /// Books that somebody may still write into.
    past: Vec<Arc<Book>>,
    /// By number.
    upstreams: Vec<Use>,
    /// By the upstream's number and their own.
    backends: Vec<Vec<Use>>,
}

/// Who uses a number.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    by: usize,
    /// It was in use, and is no more: its name is shown no longer, and another may have its number.
    over: bool,
}

impl Use {
    fn begin(&mut self) {
        self.by += 1;
        self.over = false;
    }

    fn end(&mut self) {
        self.by -= 1;
        self.over = self.by == 0;
    }
}

impl Books {
    /// Counters at zero for these names, numbered in their order.
    pub(super) fn new(layout: Layout, cores: usize) -> Self {
        let upstreams = vec![Use::default(); layout.upstreams.len()];
        let unused = |(_, names): &(_, Vec<_>)| vec![Use::default(); names.len()];
        let backends = layout.upstreams.iter().map(unused).collect();
        Books {
            cores,
            current: ArcSwap::from_pointee(Book::new(layout, cores)),
            register: Mutex::new(Register {
                past: Vec::new(),
                upstreams,
                backends,
            }),
        }
    }

    /// The book to write into at this moment.
    pub(super) fn current(&self) -> Guard<Arc<Book>> {
        self.current.load()
    }

    /// Numbers for upstreams and their backends: those that the names have, or new ones.
    pub(super) fn enroll(self: &Arc<Self>, wanted: &[(String, Vec<String>)]) -> Vec<Enrolled> {
        let mut register = self.lock();
        let mut layout = self.current().layout.clone();
        let numbers = register.number(&mut layout, wanted);
        if layout != self.current().layout {
            let next = Arc::new(Book::new(layout, self.cores));
            register.past.push(self.current.swap(next));
        }
        self.settle(&mut register);
        let enrolled = numbers.into_iter().map(|(upstream, backends)| Enrolled {
            books: Arc::clone(self),
            upstream,
            backends,
        });
        enrolled.collect()
    }

    /// The names that are shown, where a number that is nobody's has an empty one, and what all counters have come to.
    pub(super) fn totals(&self) -> (Layout, Vec<u64>) {
        let mut register = self.lock();
        self.settle(&mut register);
        let book = self.current();
        let mut totals: Vec<u64> = (0..book.cells.len()).map(|cell| book.total(cell)).collect();
        for past in &register.past {
            past.carry(&book, |cell, count| totals[cell] += count);
        }
        let mut layout = book.layout.clone();
        for (number, (name, backends)) in layout.upstreams.iter_mut().enumerate() {
            if register.upstreams[number].over {
                name.clear();
            }
            let named = backends.iter_mut().zip(&register.backends[number]);
            named
                .filter(|(_, used)| used.over)
                .for_each(|(name, _)| name.clear());
        }
        (layout, totals)
    }

    /// Carries over what books hold into which nobody can write any more.
    fn settle(&self, register: &mut Register) {
        let book = self.current();
        let carried = &book.blocks[self.cores];
        let past = std::mem::take(&mut register.past);
        // Whoever loaded one before it was swapped holds a count of its own.
        register.past = past
            .into_iter()
            .filter_map(|past| match Arc::try_unwrap(past) {
                Ok(past) => {
                    past.carry(&book, |cell, count| carried.add_many(cell, count));
                    None
                }
                Err(past) => Some(past),
            })
            .collect();
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Register {
    /// The numbers of `wanted` in `layout`, to which names are added that it does not have.
    fn number(
        &mut self,
        layout: &mut Layout,
        wanted: &[(String, Vec<String>)],
    ) -> Vec<(usize, Vec<usize>)> {
        let known: Vec<&str> = layout.upstreams.iter().map(|(name, _)| &**name).collect();
        let names: Vec<&str> = wanted.iter().map(|(name, _)| &**name).collect();
        let numbers = place(&mut self.upstreams, &known, &names);
        self.backends.resize_with(self.upstreams.len(), Vec::new);
        layout
            .upstreams
            .resize_with(self.upstreams.len(), Default::default);
        let each = numbers.into_iter().zip(wanted);
        let each = each.map(|((at, is_new), (name, wanted))| {
            if is_new {
                layout.upstreams[at] = (name.clone(), Vec::new());
                self.backends[at].clear();
            }
            let (names, uses) = (&mut layout.upstreams[at].1, &mut self.backends[at]);
            let known: Vec<&str> = names.iter().map(|name| &**name).collect();
            let wanted_names: Vec<&str> = wanted.iter().map(|name| &**name).collect();
            let numbers = place(uses, &known, &wanted_names);
            names.resize(uses.len(), String::new());
            for ((at, _), name) in numbers.iter().zip(wanted) {
                names[*at].clone_from(name);
            }
            (at, numbers.into_iter().map(|(at, _)| at).collect())
        });
        each.collect()
    }

    fn release(&mut self, upstream: usize, backends: &[usize]) {
        self.upstreams[upstream].end();
        let uses = &mut self.backends[upstream];
        backends.iter().for_each(|b| uses[*b].end());
    }
}

/// The number of each name in `wanted`, and whether it is new to it. A name that is not `known` takes a number that is nobody's.
fn place(uses: &mut Vec<Use>, known: &[&str], wanted: &[&str]) -> Vec<(usize, bool)> {
    // Those that are there first, so that no new name takes the number of one that goes on.
    let find = |name: &&str| known.iter().position(|known| known == name);
    let found: Vec<Option<usize>> = wanted.iter().map(find).collect();
    found.iter().flatten().for_each(|at| uses[*at].begin());
    let placed = found.into_iter().map(|found| {
        let Some(at) = found else {
            let free = uses.iter().position(|used| used.over);
            let at = free.unwrap_or(uses.len());
            uses.resize(uses.len().max(at + 1), Use::default());
            uses[at].begin();
            return (at, true);
        };
        (at, false)
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Names = Vec<(String, Vec<String>)>;
    type Counts = std::collections::BTreeMap<(String, String), u64>;

    fn names(chosen: &[(u8, Vec<u8>)]) -> Names {
        let mut names: std::collections::BTreeMap<String, Vec<String>> = Default::default();
        for (upstream, backends) in chosen {
            let mut backends: Vec<String> = backends.iter().map(|b| format!("b{b}")).collect();
            backends.sort();
            backends.dedup();
            names.insert(format!("u{upstream}"), backends);
        }
        names.into_iter().collect()
    }

    fn layout(upstreams: Names) -> Layout {
        Layout {
            listeners: vec!["l".into()],
            upstreams,
        }
    }

    #[test]
    fn every_counter_of_a_name_that_stays_is_carried_over_once() {
        let layout = layout(vec![
            ("u".into(), vec!["a".into(), "b".into()]),
            ("v".into(), vec![]),
        ]);
        let cells = Cells::new(&layout);
        let mut carried = vec![0; cells.len()];
        for (from, to, len) in Cells::shared((&layout, &cells), (&layout, &cells)) {
            assert_eq!(from, to);
            carried[to..to + len].iter_mut().for_each(|n| *n += 1);
        }
        assert!(carried.iter().all(|n| *n == 1), "{carried:?}");
    }

    proptest! {
        /// Whatever generations come and go, a name that one of them has keeps its number and its counters, no two have the same
        /// one, and there are no more numbers than names were ever in use at once, but for those that the first layout had.
        #[test]
        fn a_name_keeps_its_counters_for_as_long_as_it_is_in_use(
            first in prop::collection::vec((0..4_u8, prop::collection::vec(0..4_u8, 0..4)), 0..3),
            steps in prop::collection::vec(
                (prop::collection::vec((0..6_u8, prop::collection::vec(0..6_u8, 0..4)), 0..4), any::<bool>(), any::<bool>()),
                1..12,
            ),
        ) {
            let first = names(&first);
            let books = Arc::new(Books::new(layout(first.clone()), 2));
            let mut alive: Vec<(Names, Vec<Enrolled>)> = Vec::new();
            let (mut held, mut peak) = (None, 0);
            let (mut counted, mut lasting) = (Counts::new(), Counts::new());
            for (chosen, keeps_old, holds_book) in steps {
                let wanted = names(&chosen);
                let enrolled = books.enroll(&wanted);
                alive.push((wanted, enrolled));
                let named: std::collections::BTreeSet<&String> =
                    alive.iter().flat_map(|(names, _)| names).map(|(name, _)| name).collect();
                peak = peak.max(named.len());
                if !keeps_old {
                    alive.drain(..alive.len() - 1);
                }
                // Whoever has loaded a book writes into that one, however many follow it.
                let book = match held.take() {
                    Some(book) if holds_book => book,
                    _ => books.current.load_full(),
                };
                let mut numbers = std::collections::BTreeMap::new();
                for (names, enrolled) in &alive {
                    for ((upstream, backends), enrolled) in names.iter().zip(enrolled) {
                        for (backend, number) in backends.iter().zip(&enrolled.backends) {
                            let name = (upstream.clone(), backend.clone());
                            let before = numbers.insert((enrolled.upstream, *number), name.clone());
                            prop_assert!(before.is_none_or(|before| before == name));
                            let known = book.layout.upstreams.get(enrolled.upstream);
                            let known = known.is_some_and(|(u, b)| u == upstream && b.get(*number) == Some(backend));
                            if known {
                                let target = book.cells.target(Some(enrolled.upstream), Some(*number));
                                book.block(0).add(book.cells.request(0, target, 200));
                                *counted.entry(name.clone()).or_default() += 1;
                                *lasting.entry(name).or_default() += 1;
                            }
                        }
                    }
                }
                held = Some(book);
                let in_use = |name: &(String, String)| numbers.values().any(|used| used == name);
                lasting.retain(|name, _| in_use(name));
                let (shown, totals) = books.totals();
                let cells = Cells::new(&shown);
                for ((upstream, backend), number) in numbers.iter().map(|(number, name)| (name.clone(), *number)) {
                    let target = cells.target(Some(number.0), Some(number.1));
                    let total = totals[cells.request(0, target, 200)];
                    let of = |counts: &Counts| counts.get(&(upstream.clone(), backend.clone())).copied().unwrap_or(0);
                    // Who comes back may find what it had.
                    prop_assert!((of(&lasting)..=of(&counted)).contains(&total), "{} {} {}", upstream, backend, total);
                    prop_assert_eq!(&shown.upstreams[number.0].0, &upstream);
                    prop_assert_eq!(&shown.upstreams[number.0].1[number.1], &backend);
                }
                prop_assert!(shown.upstreams.len() <= first.len() + peak);
            }
            drop(held);
            let _ = books.totals();
            prop_assert!(books.lock().past.is_empty());
        }
    }
}
