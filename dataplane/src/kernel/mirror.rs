//! Keeps the [`KernelView`] true: subscribes, dumps, and follows the kernel's events.
//!
//! 1. Subscribe first, dump then: what changes between the two is heard, and dumped again.
//! 2. Events are gathered for [`COALESCE`], then what they made stale is dumped, then one view is published, and only
//!    if it differs from the last. So a thousand routes set at once are one change of the forwarding table.
//! 3. A dump that takes long is not repeated at once: at most a fifth of the time goes into dumps, however busy the
//!    kernel's tables are. Beside 100,000 routes a changed route is seen after 0.16 s and a changed MAC after 5 ms
//!    (`tests/kernel_mirror.rs` measures it); beside a few routes, both after 5 ms.
//! 4. After lost events the subscription is made anew before the dump: a socket that overran may still hold events
//!    older than the dump.
//! 5. Every [`RECONCILE_INTERVAL`] everything is dumped, in case the kernel changed something without an event.
//!
//! If the kernel cannot be heard at all, the last view stays and the data plane forwards with it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::neighbours::{NeighbourKey, Upkeep};
use super::netlink::{Dump, Events, NetlinkError, Requests};
use super::policy_rules::PolicyRules;
use super::route_message::BestRoutes;
use super::tables::{Stale, Tables};
use super::tap::TapName;
use super::view::KernelView;

/// How long events are gathered before a view is made of them.
pub const COALESCE: Duration = Duration::from_millis(1);

/// How often everything is dumped without an event.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(30);

/// How often neighbours in use are looked at.
const UPKEEP_TICK: Duration = Duration::from_millis(250);

/// Between two attempts to hear a kernel that refuses.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Datagrams of events taken in one go; more wait for the next.
const DRAIN_MAX: usize = 4096;

/// How often an interrupted dump is repeated at once; then it waits for the next refresh.
const DUMP_ATTEMPTS_MAX: usize = 4;

/// Between two looks at what workers ask for, so that a flood of it leaves the thread free for other things.
const WANTED_INTERVAL: Duration = Duration::from_millis(5);

/// Neighbours workers may ask for between two looks; more are asked for by their next packet.
const WANTED_QUEUE: usize = 1024;

/// The part of the mirror that runs.
pub struct Mirror {
    tables: Tables,
    events: Events,
    requests: Requests,
    receive_buffer_bytes: Option<usize>,
    stale: Stale,
    refresh_at: Instant,
    reconcile_at: Instant,
    policy_rules: PolicyRules,
    upkeep: Upkeep,
    upkeep_at: Instant,
    wanted_at: Instant,
    view: watch::Sender<Arc<KernelView>>,
    in_use: watch::Receiver<Arc<BTreeSet<NeighbourKey>>>,
    wanted: mpsc::Receiver<NeighbourKey>,
}

/// The part of the mirror that the publisher holds. The mirror ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct MirrorHandle {
    view: watch::Receiver<Arc<KernelView>>,
    in_use: Arc<watch::Sender<Arc<BTreeSet<NeighbourKey>>>>,
    wanted: mpsc::Sender<NeighbourKey>,
}

impl MirrorHandle {
    /// The view as it is now; counts as seen.
    pub fn view(&mut self) -> Arc<KernelView> {
        Arc::clone(&self.view.borrow_and_update())
    }

    /// Waits for a view that has not been seen. False when the mirror has ended.
    pub async fn changed(&mut self) -> bool {
        self.view.changed().await.is_ok()
    }

    /// Says which neighbours the forwarding table refers to; they are kept resolved from now on.
    pub fn set_in_use(&self, in_use: BTreeSet<NeighbourKey>) {
        self.in_use.send_replace(Arc::new(in_use));
    }

    /// Asks for a neighbour a packet waits for. May be called for every such packet: the questions are rationed.
    pub fn want(&self, key: NeighbourKey) {
        // Full: so many are asked for already that this one may as well wait for its next packet.
        let _ = self.wanted.try_send(key);
    }
}

impl Mirror {
    /// Connects to the kernel of this thread's network namespace and reads everything once, so that the handle's
    /// first view is a true one.
    ///
    /// # Errors
    /// [`NetlinkError`] when the kernel cannot be read.
    pub async fn connect(taps: Vec<TapName>) -> Result<(Self, MirrorHandle), NetlinkError> {
        Self::connect_with(taps, None).await
    }

    /// [`Mirror::connect`] with a receive buffer of this size, for tests of what happens when it overflows.
    ///
    /// # Errors
    /// As [`Mirror::connect`].
    pub async fn connect_with(
        taps: Vec<TapName>,
        receive_buffer_bytes: Option<usize>,
    ) -> Result<(Self, MirrorHandle), NetlinkError> {
        let (view_sender, view) = watch::channel(Arc::default());
        let (in_use_sender, in_use) = watch::channel(Arc::default());
        let (wanted_sender, wanted) = mpsc::channel(WANTED_QUEUE);
        let now = Instant::now();
        let mut mirror = Self {
            tables: Tables::new(taps),
            events: Events::subscribe(receive_buffer_bytes)?,
            requests: Requests::open()?,
            receive_buffer_bytes,
            stale: Stale::ALL,
            refresh_at: now,
            reconcile_at: now + RECONCILE_INTERVAL,
            policy_rules: PolicyRules::default(),
            upkeep: Upkeep::default(),
            upkeep_at: now,
            wanted_at: now,
            view: view_sender,
            in_use,
            wanted,
        };
        match mirror.rules().await {
            Ok(rules) => mirror.note(&rules.unwrap_or_default()),
            // A kernel without policy routing has no rules to follow.
            Err(NetlinkError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        while mirror.stale.any() {
            mirror.refresh().await?;
        }
        mirror.publish();
        let handle = MirrorHandle {
            view,
            in_use: Arc::new(in_use_sender),
            wanted: wanted_sender,
        };
        Ok((mirror, handle))
    }

    /// Follows the kernel until every handle is dropped.
    pub async fn run(mut self) {
        while !self.view.is_closed() {
            match self.step().await {
                Ok(()) => continue,
                Err(NetlinkError::Overrun) => {
                    log::info!("{}; reading everything again", NetlinkError::Overrun);
                }
                Err(error) => {
                    log::error!("{error}; forwarding goes on with what is known, trying again");
                    sleep(RETRY_INTERVAL).await;
                }
            }
            if let Err(error) = self.reconnect() {
                log::error!("{error}");
            }
        }
    }

    fn reconnect(&mut self) -> Result<(), NetlinkError> {
        self.stale = Stale::ALL;
        self.events = Events::subscribe(self.receive_buffer_bytes)?;
        self.requests = Requests::open()?;
        Ok(())
    }

    /// Waits for one thing to happen and does all that follows from it.
    async fn step(&mut self) -> Result<(), NetlinkError> {
        let mut wake_at = self.reconcile_at.min(self.upkeep_at);
        if self.stale.any() {
            wake_at = wake_at.min(self.refresh_at);
        }
        let mut wanted = Vec::new();
        let may_want = Instant::now() >= self.wanted_at;
        if !may_want {
            wake_at = wake_at.min(self.wanted_at);
        }
        tokio::select! {
            events = self.events.next() => {
                self.note(&events?);
                sleep(COALESCE).await;
                self.drain()?;
            }
            1.. = self.wanted.recv_many(&mut wanted, WANTED_QUEUE), if may_want => {
                wanted.into_iter().for_each(|key| self.upkeep.want(key));
                self.upkeep_at = Instant::now();
            }
            Ok(()) = self.in_use.changed() => {
                let in_use = Arc::clone(&self.in_use.borrow_and_update());
                self.upkeep.set_in_use(BTreeSet::clone(&in_use));
                self.upkeep_at = Instant::now();
            }
            () = sleep_until(wake_at) => {}
            () = self.view.closed() => return Ok(()),
        }
        let now = Instant::now();
        if now >= self.reconcile_at {
            self.stale = Stale::ALL;
        }
        if self.stale.any() && now >= self.refresh_at {
            self.refresh().await?;
            // Events that the dump already shows: taken before the view is published, so that it never goes back.
            self.drain()?;
        }
        self.publish();
        if now >= self.upkeep_at {
            self.upkeep_at = now + UPKEEP_TICK;
            self.wanted_at = now + WANTED_INTERVAL;
            self.ask(now).await?;
        }
        Ok(())
    }

    fn note(&mut self, events: &[RouteNetlinkMessage]) {
        for event in events {
            self.stale |= self.tables.note(event);
            if let Some(complaint) = self.policy_rules.note(event) {
                log::warn!("{complaint}");
            }
        }
    }

    fn drain(&mut self) -> Result<(), NetlinkError> {
        for _ in 0..DRAIN_MAX {
            match self.events.try_next()? {
                Some(events) => self.note(&events),
                None => break,
            }
        }
        Ok(())
    }

    fn publish(&self) {
        let now = self.tables.view();
        self.view.send_if_modified(|view| {
            let is_news = **view != now;
            if is_news {
                *view = Arc::new(now);
            }
            is_news
        });
    }

    /// Dumps what is stale. What could not be read whole stays stale, and as it was.
    async fn refresh(&mut self) -> Result<(), NetlinkError> {
        let started = Instant::now();
        let mut stale = std::mem::take(&mut self.stale);
        if stale == Stale::ALL {
            self.reconcile_at = started + RECONCILE_INTERVAL;
        }
        if stale.links {
            match self.links().await? {
                Some(links) if self.tables.replace_links(&links) => stale = Stale::ALL,
                Some(_) => {}
                None => self.stale.links = true,
            }
        }
        if stale.addresses {
            match self.addresses().await? {
                Some(addresses) => self.tables.replace_addresses(&addresses),
                None => self.stale.addresses = true,
            }
        }
        if stale.neighbours {
            match self.neighbours().await? {
                Some(neighbours) => self.tables.replace_neighbours(&neighbours),
                None => self.stale.neighbours = true,
            }
        }
        if stale.routes_v4 {
            self.stale.routes_v4 =
                self.refresh_routes(AddressFamily::Inet).await? == Dump::Interrupted;
        }
        if stale.routes_v6 {
            self.stale.routes_v6 =
                self.refresh_routes(AddressFamily::Inet6).await? == Dump::Interrupted;
        }
        self.refresh_at = Instant::now() + started.elapsed() * 4;
        Ok(())
    }

    async fn links(&mut self) -> Result<Option<Vec<LinkMessage>>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.table("list interfaces", request, |message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .await
    }

    async fn addresses(&mut self) -> Result<Option<Vec<AddressMessage>>, NetlinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.table("list addresses", request, |message| match message {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        })
        .await
    }

    async fn neighbours(&mut self) -> Result<Option<Vec<NeighbourMessage>>, NetlinkError> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.table("list neighbours", request, |message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour),
            _ => None,
        })
        .await
    }

    async fn rules(&mut self) -> Result<Option<Vec<RouteNetlinkMessage>>, NetlinkError> {
        let request = RouteNetlinkMessage::GetRule(RuleMessage::default());
        self.table("list policy rules", request, Some).await
    }

    /// A table that fits into memory twice; none when it changed each time it was read.
    async fn table<T>(
        &mut self,
        what: &'static str,
        request: RouteNetlinkMessage,
        pick: fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Option<Vec<T>>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            let mut entries = Vec::new();
            let take = |message| entries.extend(pick(message));
            if self.requests.dump(what, request.clone(), take).await? == Dump::Whole {
                return Ok(Some(entries));
            }
        }
        Ok(None)
    }

    /// Routes may be a million: each is digested as it comes.
    async fn refresh_routes(&mut self, family: AddressFamily) -> Result<Dump, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            let mut routes = BestRoutes::default();
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let request = RouteNetlinkMessage::GetRoute(message);
            let tables = &self.tables;
            let take = |message| {
                // A kernel without IPv6 answers the question for its routes with all it has.
                if let RouteNetlinkMessage::NewRoute(route) = message
                    && route.header.address_family == family
                {
                    tables.add_route(&mut routes, &route);
                }
            };
            if self.requests.dump("list routes", request, take).await? == Dump::Whole {
                self.tables.replace_routes(family, routes);
                return Ok(Dump::Whole);
            }
        }
        Ok(Dump::Interrupted)
    }

    /// Asks for the neighbours that are due. What the kernel refuses concerns one neighbour only.
    async fn ask(&mut self, now: Instant) -> Result<(), NetlinkError> {
        let tables = &self.tables;
        let due = self
            .upkeep
            .due(now.into_std(), |key| tables.resolution(key));
        let mut refused: Option<(IpAddr, std::io::Error)> = None;
        for (egress, ip) in due {
            let Some(interface) = self.tables.interface(egress) else {
                continue;
            };
            let request = RouteNetlinkMessage::NewNeighbour(use_neighbour(interface, ip));
            let flags = NLM_F_CREATE | NLM_F_REPLACE;
            let asked = self.requests.change("resolve a neighbour", request, flags);
            match asked.await {
                // The first stands for all: they have one cause, most likely a full neighbour table.
                Err(NetlinkError::Refused { source, .. }) => {
                    refused = refused.or(Some((ip, source)))
                }
                other => other?,
            }
        }
        if let Some((ip, source)) = refused {
            log::warn!(
                "the kernel does not look for neighbour {ip}: {source}; if its table is full, raise \
                 net.ipv4.neigh.default.gc_thresh3 and net.ipv6.neigh.default.gc_thresh3"
            );
        }
        Ok(())
    }
}

/// What tells the kernel that a packet is to be sent to this neighbour.
fn use_neighbour(interface: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = interface;
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    message
        .attributes
        .push(NeighbourAttribute::Destination(ip.into()));
    message
}
