//! Watches that ask for the same are told the same bytes, which the first of them encodes.
//!
//! A frame says what happened between two revisions. Whoever stands where a frame begins sends it as it is and stands
//! where it ends; whoever stands elsewhere (it began later, or reads slowly) encodes for itself until it catches up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kubetask_store::Revision;

use crate::registry::Resource;
use crate::request::{Format, Output, Shape};
use crate::selectors::Selection;

/// Frames of a group that are kept: the newest, and those that the slower of its watches have not come to yet.
const KEPT: usize = 8;

/// What watches must have in common to be told the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The address of the resource, which the encoder of each member keeps alive.
    resource: usize,
    prefix: String,
    selection: Selection,
    output: Output,
}

/// All groups that have members.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<HashMap<Key, Arc<Group>>>);

/// The frames of watches that ask for the same.
#[derive(Debug, Default)]
struct Group(Mutex<Frames>);

/// The newest frames, in the order of their revisions.
#[derive(Debug, Default)]
pub(super) struct Frames(VecDeque<Frame>);

/// All that happened after one revision, up to another.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) from: Revision,
    pub(super) to: Revision,
    /// Empty where nothing of it was selected.
    pub(super) bytes: Bytes,
}

/// A watch's place in its group.
#[derive(Debug)]
pub(super) struct Member {
    groups: Arc<Groups>,
    key: Key,
    group: Arc<Group>,
}

impl Groups {
    /// The group of a watch; `None` where what it is told depends on more than what it asks for: a Table has its columns
    /// in its first event, and ages in each.
    pub(super) fn join(
        self: &Arc<Self>,
        resource: &Arc<Resource>,
        prefix: &str,
        selection: &Selection,
        output: Output,
    ) -> Option<Member> {
        if output.format != Format::Json || output.shape == Shape::Table {
            return None;
        }
        let key = Key {
            resource: Arc::as_ptr(resource).addr(),
            prefix: prefix.to_owned(),
            selection: selection.clone(),
            output,
        };
        let group = lock(&self.0).entry(key.clone()).or_default().clone();
        Some(Member { groups: self.clone(), key, group })
    }
}

impl Member {
    /// The frames. As long as they are held nobody else encodes what is about to be encoded.
    pub(super) fn frames(&self) -> MutexGuard<'_, Frames> {
        lock(&self.group.0)
    }

    /// Whether there is nobody to share with.
    pub(super) fn alone(&self) -> bool {
        // The other reference is that of the map.
        Arc::strong_count(&self.group) <= 2
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut groups = lock(&self.groups.0);
        // Nobody joins meanwhile.
        if self.alone() {
            groups.remove(&self.key);
        }
    }
}

impl Frames {
    /// The frame that begins after a revision.
    pub(super) fn after(&self, revision: Revision) -> Option<&Frame> {
        self.0.iter().rev().find(|frame| frame.from == revision)
    }

    /// Keeps a frame for the others, unless it is older than what they have.
    pub(super) fn keep(&mut self, frame: Frame) {
        if frame.from == frame.to || self.0.back().is_some_and(|last| last.to > frame.to) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(frame);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(from: Revision, to: Revision) -> Frame {
        Frame { from, to, bytes: Bytes::new() }
    }

    #[test]
    fn the_newest_frames_are_kept() {
        let mut frames = Frames::default();
        assert!(frames.after(0).is_none());
        for from in 0..10 {
            frames.keep(frame(from, from + 1));
        }
        let ends = |frames: &Frames| frames.0.iter().map(|frame| frame.to).collect::<Vec<_>>();
        assert_eq!(ends(&frames), [3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(frames.after(8).map(|frame| frame.to), Some(9));
        assert!(frames.after(10).is_none());
        // One who is behind is no help to the others, nor is nothing at all.
        frames.keep(frame(2, 5));
        frames.keep(frame(10, 10));
        assert_eq!(ends(&frames), [3, 4, 5, 6, 7, 8, 9, 10]);
        // One who began elsewhere is, to those who stand there too.
        frames.keep(frame(4, 12));
        assert_eq!(frames.after(4).map(|frame| frame.to), Some(12));
    }
}
