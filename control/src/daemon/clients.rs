//! The clients of a socket: who is connected, and who makes room for one more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::AbortHandle;

use super::lock;

/// All connected clients.
#[derive(Debug)]
pub struct Clients {
    connected: Mutex<HashMap<u64, Client>>,
    most: usize,
}

#[derive(Debug)]
struct Client {
    task: AbortHandle,
    /// Since when it has asked nothing; none while a command of it is being done.
    idle_since: Option<Instant>,
}

/// A client's entry; dropped, the client is gone from the list.
#[derive(Debug)]
pub struct Presence {
    clients: Arc<Clients>,
    id: u64,
}

impl Clients {
    /// Nobody yet; so many at once, at most.
    pub fn new(most: usize) -> Self {
        Self {
            connected: Mutex::default(),
            most,
        }
    }

    /// Makes room for one more. False when all are busy.
    #[must_use]
    pub fn make_room(&self) -> bool {
        let mut connected = lock(&self.connected);
        if connected.len() < self.most {
            return true;
        }
        let idle = connected.iter().filter_map(|(id, client)| {
            let since = client.idle_since?;
            Some((since, *id))
        });
        let Some((_, longest)) = idle.min() else {
            return false;
        };
        if let Some(client) = connected.remove(&longest) {
            client.task.abort();
        }
        true
    }

    /// Enters a client with the task that serves it. To be called before the task runs for the first time.
    pub fn enter(&self, id: u64, task: AbortHandle) {
        let client = Client {
            task,
            idle_since: Some(Instant::now()),
        };
        lock(&self.connected).insert(id, client);
    }

    /// The entry of a client, for its own task.
    pub fn presence(self: &Arc<Self>, id: u64) -> Presence {
        Presence {
            clients: Arc::clone(self),
            id,
        }
    }
}

impl Presence {
    /// From here on the client must not be cut off to make room.
    pub fn busy(&self) {
        self.set(None);
    }

    /// From here on it may.
    pub fn idle(&self) {
        self.set(Some(Instant::now()));
    }

    fn set(&self, idle_since: Option<Instant>) {
        if let Some(client) = lock(&self.clients.connected).get_mut(&self.id) {
            client.idle_since = idle_since;
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        lock(&self.clients.connected).remove(&self.id);
    }
}
