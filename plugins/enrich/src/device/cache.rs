//! Remembers devices by user agent, within bounds.
//!
//! Two generations: a full young one becomes the old one, and what is used again moves back. That keeps what is in
//! use at the price of a hash map, without a list to keep in order.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use super::Device;

/// The standard hasher, because whoever logs in chooses the keys.
type Generation = HashMap<Box<str>, Arc<Device>>;

#[derive(Debug)]
pub(super) struct Cache {
    limit: usize,
    young: Generation,
    old: Generation,
}

impl Cache {
    /// A cache of `limit` to twice as many entries.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            young: Generation::new(),
            old: Generation::new(),
        }
    }

    pub(super) fn get_or_insert_with(
        &mut self,
        key: &str,
        make: impl FnOnce() -> Device,
    ) -> Arc<Device> {
        if let Some(device) = self.young.get(key) {
            return Arc::clone(device);
        }
        let (key, device) = self
            .old
            .remove_entry(key)
            .unwrap_or_else(|| (key.into(), Arc::new(make())));
        if self.young.len() >= self.limit {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, Arc::clone(&device));
        device
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
