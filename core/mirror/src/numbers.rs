//! Which flow a number stands for: how a close takes six bytes.

use holdfast_engine::FlowKey;

/// Keys per chunk: growing never moves what is there.
const CHUNK: usize = 4_096;

/// The receiver's map from numbers to client-side keys, as of the last record
/// read under each number. The sender's numbers are dense.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Vec<Option<Box<[Option<FlowKey>]>>>);

impl Numbers {
    /// Another session begins.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// `number` stands for the flow with this key from here on. Numbers are
    /// below [`crate::MAX_NUMBERS`], as the codec has checked.
    pub(crate) fn set(&mut self, number: u32, key: FlowKey) {
        let (chunk, place) = (number as usize / CHUNK, number as usize % CHUNK);
        if self.0.len() <= chunk {
            self.0.resize(chunk + 1, None);
        }
        let keys = self.0[chunk].get_or_insert_with(|| vec![None; CHUNK].into_boxed_slice());
        keys[place] = Some(key);
    }

    /// The flow that `number` stands for.
    pub(crate) fn get(&self, number: u32) -> Option<FlowKey> {
        let (chunk, place) = (number as usize / CHUNK, number as usize % CHUNK);
        *self.0.get(chunk)?.as_ref()?.get(place)?
    }
}
