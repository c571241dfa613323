//! The services of a configuration: in the order they were added, found by id, and shared with the configurations it was
//! made from.

use std::collections::HashSet;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::configuration::{ChangeError, ServiceEntry};
use crate::identity::ServiceId;

/// Services in the order they were added, each once.
///
/// A copy shares every service with the list it was made from until one of the two changes it: a change of one server of
/// thousands of services copies that service, and which services differ between two lists is seen without reading them
/// ([`ServiceList::changed_since`]).
#[derive(Debug, Clone, Default)]
pub struct ServiceList(IndexMap<ServiceId, Arc<ServiceEntry>, DefaultHashBuilder>);

impl ServiceList {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in the order they were added.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.values())
    }

    /// The first.
    pub fn first(&self) -> Option<&ServiceEntry> {
        self.iter().next()
    }

    /// One by its id.
    pub fn get(&self, id: ServiceId) -> Option<&ServiceEntry> {
        self.0.get(&id).map(|entry| &**entry)
    }

    /// One by its id, to be changed. Its id has to stay.
    pub fn get_mut(&mut self, id: ServiceId) -> Option<&mut ServiceEntry> {
        self.0.get_mut(&id).map(Arc::make_mut)
    }

    /// All, to be changed. Their ids have to stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut ServiceEntry> {
        self.0.values_mut().map(Arc::make_mut)
    }

    /// Whether it is among them.
    pub fn contains(&self, id: ServiceId) -> bool {
        self.0.contains_key(&id)
    }

    /// Adds a service behind the others; false, and nothing done, when its id is there.
    pub fn push(&mut self, entry: ServiceEntry) -> bool {
        let id = entry.service.id;
        let is_new = !self.contains(id);
        if is_new {
            self.0.insert(id, Arc::new(entry));
        }
        is_new
    }

    /// Removes a service; the order of the others stays.
    pub fn remove(&mut self, id: ServiceId) {
        self.0.shift_remove(&id);
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Which services are not the very same as in a list that this one was made from: added, removed, or touched by a change,
    /// be it to what they were.
    pub fn changed_since(&self, before: &Self) -> HashSet<ServiceId> {
        let is_same = |id: &ServiceId, entry: &Arc<ServiceEntry>, other: &Self| {
            let found = other.0.get(id);
            found.is_some_and(|found| Arc::ptr_eq(found, entry))
        };
        let new = self.0.iter();
        let new = new.filter(|(id, entry)| !is_same(id, entry, before));
        let gone = before.0.keys().filter(|id| !self.contains(**id));
        new.map(|(id, _)| *id).chain(gone.copied()).collect()
    }
}

/// Equal when the same services are in the same order.
impl PartialEq for ServiceList {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.0.values().eq(other.0.values())
    }
}

impl Eq for ServiceList {}

/// The services of a list in their order.
#[derive(Debug, Clone)]
pub struct Iter<'a>(indexmap::map::Values<'a, ServiceId, Arc<ServiceEntry>>);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a ServiceEntry;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| &**entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|entry| &**entry)
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a ServiceList {
    type Item = &'a ServiceEntry;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Of several services of one id the first stays.
impl FromIterator<ServiceEntry> for ServiceList {
    fn from_iter<T: IntoIterator<Item = ServiceEntry>>(entries: T) -> Self {
        let mut list = Self::default();
        for entry in entries {
            list.push(entry);
        }
        list
    }
}

/// By place.
impl Index<usize> for ServiceList {
    type Output = ServiceEntry;

    #[allow(clippy::indexing_slicing)] // as a vector does
    fn index(&self, place: usize) -> &Self::Output {
        &self.0[place]
    }
}

impl IndexMut<usize> for ServiceList {
    #[allow(clippy::indexing_slicing)] // as a vector does
    fn index_mut(&mut self, place: usize) -> &mut Self::Output {
        Arc::make_mut(&mut self.0[place])
    }
}

impl Serialize for ServiceList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for ServiceList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Self::default();
        for entry in Vec::<ServiceEntry>::deserialize(deserializer)? {
            let id = entry.service.id;
            if !list.push(entry) {
                return Err(D::Error::custom(ChangeError::ServiceExists(id)));
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Protocol, VirtualService};

    fn id(port: u16) -> ServiceId {
        let endpoint = format!("198.51.100.1:{port}");
        ServiceId::address(Protocol::Tcp, endpoint.parse().unwrap())
    }

    fn entry(port: u16) -> ServiceEntry {
        ServiceEntry {
            service: VirtualService::new(id(port)),
            destinations: Vec::new(),
        }
    }

    fn list(ports: impl IntoIterator<Item = u16>) -> ServiceList {
        ports.into_iter().map(entry).collect()
    }

    #[test]
    fn order_is_that_of_addition_and_counts() {
        let mut services = list([3, 1, 2]);
        assert_ne!(services, list([1, 2, 3]));
        assert!(!services.push(entry(1)));
        services.remove(id(1));
        services.remove(id(7));
        assert_eq!(services, list([3, 2]));
        assert!(services.push(entry(1)));
        assert_eq!(services, list([3, 2, 1]));
        assert_eq!(services.get(id(2)), Some(&entry(2)));
        assert_eq!(services.first(), Some(&entry(3)));
        assert_eq!(services.iter().next_back(), Some(&entry(1)));
    }

    #[test]
    fn only_what_was_touched_has_changed() {
        let before = list(0..1000);
        let mut after = before.clone();
        assert!(after.changed_since(&before).is_empty());
        after.get_mut(id(5)).unwrap().service.one_packet = true;
        // To what it was.
        after.get_mut(id(6)).unwrap().service.one_packet = false;
        after.remove(id(7));
        after.push(entry(2000));
        let changed = [5, 6, 7, 2000].map(id);
        assert_eq!(after.changed_since(&before), changed.into());
        assert!(!before.get(id(5)).unwrap().service.one_packet);
    }

    #[test]
    fn json_is_a_list_and_no_service_is_in_it_twice() {
        let text = serde_json::to_string(&list([2, 1])).unwrap();
        assert!(text.starts_with('['), "{text}");
        assert_eq!(
            serde_json::from_str::<ServiceList>(&text).unwrap(),
            list([2, 1])
        );
        let twice = format!("{},{}", text.trim_end_matches(']'), &text[1..]);
        let error = serde_json::from_str::<ServiceList>(&twice).unwrap_err();
        assert!(error.to_string().contains("already exists"), "{error}");
    }
}
