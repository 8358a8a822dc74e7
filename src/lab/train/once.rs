//! Values that several members need and one of them computes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// A value: empty until whoever holds the lock has computed it.
type Slot<V> = Arc<Mutex<Option<Arc<V>>>>;

/// Values by key, each computed once, by the first thread that asks; others that ask meanwhile wait for it.
pub(super) struct Once<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
}

impl<K, V> Default for Once<K, V> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<K: Eq + Hash, V> Once<K, V> {
    /// The value of `key`, made with `compute` if nobody has done so.
    ///
    /// # Errors
    /// Those of `compute`; the next one to ask tries again.
    pub fn get<E>(&self, key: K, compute: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let slot = self.slots.lock().expect("holders do not panic").entry(key).or_default().clone();
        let mut slot = slot.lock().expect("holders do not panic");
        if let Some(value) = &*slot {
            return Ok(value.clone());
        }
        let value = Arc::new(compute()?);
        *slot = Some(value.clone());
        Ok(value)
    }
}
