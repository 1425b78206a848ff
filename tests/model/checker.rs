//! Walks through every state that a model can reach, and says how it came to one that must not be.

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// Something that can be in so many states.
pub trait Model {
    type State: Clone + Eq + Hash + Debug;
    type Action: Copy + Debug;

    fn initial(&self) -> Self::State;

    /// What may happen next. What the system does by itself, sooner or later, is `Own`; what clients and faults do
    /// is `Foreign` and need never happen.
    fn next(&self, state: &Self::State, add: &mut dyn FnMut(Cause, Self::Action, Self::State));

    /// What is wrong with a state, whenever it comes.
    fn wrong(&self, state: &Self::State) -> Option<&'static str>;

    /// What is wrong with a state in which the system has nothing left to do.
    fn wrong_at_rest(&self, state: &Self::State) -> Option<&'static str>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Own,
    Foreign,
}

/// How many states there were, none of them wrong.
#[derive(Clone, Copy, Debug)]
pub struct Visited {
    pub states: usize,
    pub at_rest: usize,
}

/// What is wrong, and the shortest way there.
pub struct Counterexample {
    pub why: &'static str,
    pub way: Vec<String>,
    pub states: usize,
}

impl Debug for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, after {} states:", self.why, self.states)?;
        self.way.iter().enumerate().try_for_each(|(n, step)| write!(f, "\n{:3}. {step}", n + 1))
    }
}

/// Every state is right, from each of them the system comes to rest by itself, and wherever it rests all is as it
/// should be.
pub fn check<M: Model>(model: &M) -> Result<Visited, Counterexample> {
    let mut walk = Walk::<M>::new(model.initial());
    let mut at = 0;
    let mut resting = Vec::new();
    while at < walk.states.len() {
        let state = walk.states[at].clone();
        if let Some(why) = model.wrong(&state) {
            return Err(walk.counterexample(why, at));
        }
        let mut rests = true;
        model.next(&state, &mut |cause, action, next| {
            if next != state {
                let to = walk.add(at, action, next);
                if cause == Cause::Own {
                    rests = false;
                    walk.own.push((to, at));
                }
            }
        });
        if rests {
            if let Some(why) = model.wrong_at_rest(&state) {
                return Err(walk.counterexample(why, at));
            }
            resting.push(at);
        }
        at += 1;
    }
    match walk.restless(&resting) {
        Some(at) => Err(walk.counterexample("it never comes to rest from here", at)),
        None => Ok(Visited { states: walk.states.len(), at_rest: resting.len() }),
    }
}

struct Walk<M: Model> {
    states: Vec<M::State>,
    known: HashMap<M::State, usize, BuildHasherDefault<Fold>>,
    /// How each state was reached first.
    from: Vec<Option<(usize, M::Action)>>,
    /// Steps of the system, backwards: where to, where from.
    own: Vec<(usize, usize)>,
}

impl<M: Model> Walk<M> {
    fn new(initial: M::State) -> Self {
        let known = HashMap::from_iter([(initial.clone(), 0)]);
        Self { states: vec![initial], known, from: vec![None], own: Vec::new() }
    }

    fn add(&mut self, from: usize, action: M::Action, state: M::State) -> usize {
        let fresh = self.states.len();
        *self.known.entry(state).or_insert_with_key(|state| {
            self.states.push(state.clone());
            self.from.push(Some((from, action)));
            fresh
        })
    }

    /// The first state from which no resting one can be reached by the system's own steps.
    fn restless(&mut self, resting: &[usize]) -> Option<usize> {
        self.own.sort_unstable();
        let mut reached = vec![false; self.states.len()];
        let mut open = resting.to_vec();
        for &at in resting {
            reached[at] = true;
        }
        while let Some(to) = open.pop() {
            let first = self.own.partition_point(|(target, _)| *target < to);
            for &(_, from) in self.own[first..].iter().take_while(|(target, _)| *target == to) {
                if !std::mem::replace(&mut reached[from], true) {
                    open.push(from);
                }
            }
        }
        reached.iter().position(|reached| !reached)
    }

    fn counterexample(&self, why: &'static str, mut at: usize) -> Counterexample {
        let mut way = vec![format!("{:?}", self.states[at])];
        while let Some((from, action)) = self.from[at] {
            way.push(format!("{action:?}"));
            at = from;
        }
        way.reverse();
        Counterexample { why, way, states: self.states.len() }
    }
}

/// A quick hash: nobody makes up states to collide on purpose.
#[derive(Default)]
struct Fold(u64);

impl Fold {
    fn fold(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        // The upper bits are the mixed ones.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.fold(value.into());
    }

    fn write_isize(&mut self, value: isize) {
        self.fold(u64::from_ne_bytes(i64::try_from(value).unwrap().to_ne_bytes()));
    }

    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }
}
