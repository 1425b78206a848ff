//! Events as the public reads them: out of the caches, with seats counted by the inventory a moment ago.
//!
//! An answer is at most a second old: half a second in Redis and half a second in the process for lists, one second
//! in the process for a single event, whose snapshot in Redis is forgotten when it changes.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, future};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Editor, Event, EventFilter, EventStatus, FacetName, Facets, SearchError, Sort, StoredEvent,
    cache::{ProcessCache, SharedCache, Size},
    read, search,
};
use crate::{
    analytics, clock,
    db::Db,
    fault::Fault,
    inventory::{self, Inventory, SeatCount, SyncError},
    listing::InvalidCursor,
    redis_link::RedisLink,
};

/// How old an answer about one event may be, in this process.
const EVENT_TTL: Duration = Duration::from_secs(1);
/// How old a list may be in this process, and again in Redis.
const LIST_TTL: Duration = Duration::from_millis(500);
/// How old the order by popularity may be in this process, and again in Redis.
const POPULARITY_TTL: Duration = Duration::from_secs(1);
/// How many events the order by popularity knows; the others are behind them.
const MAX_POPULAR: i64 = 10_000;
/// How many batches are read to fill one page of a list whose events may turn out to be held entirely.
const MAX_BATCHES: usize = 5;

/// Nothing can be answered. Kept for the callers that wait for the same answer, so it can be cloned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// The inventory is being read anew.
    #[error("the inventory is being rebuilt")]
    Rebuilding,
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    #[error(transparent)]
    Fault(Arc<Fault>),
}

impl From<Fault> for CatalogError {
    fn from(fault: Fault) -> Self {
        Self::Fault(Arc::new(fault))
    }
}

impl From<diesel::result::Error> for CatalogError {
    fn from(error: diesel::result::Error) -> Self {
        Fault::from(error).into()
    }
}

impl From<SearchError> for CatalogError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Cursor(error) => error.into(),
            SearchError::Fault(fault) => fault.into(),
        }
    }
}

impl From<SyncError> for CatalogError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Rebuilding | SyncError::UnknownEvent => Self::Rebuilding,
            SyncError::Fault(fault) => fault.into(),
        }
    }
}

/// One event, ready to be sent.
#[derive(Debug)]
pub struct EventAnswer {
    /// The JSON of an [`Event`].
    pub body: Bytes,
    /// The strong tag of its version.
    pub etag: Bytes,
    status: EventStatus,
    ticket_types: Vec<Uuid>,
}

/// A list, ready to be sent.
#[derive(Debug)]
pub struct ListAnswer {
    /// The JSON of an [`EventList`].
    pub body: Bytes,
    pub next_cursor: Option<String>,
}

/// A page of events.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    pub data: Vec<Event>,
    /// Opens the next page; null on the last.
    pub next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facets: Option<Facets>,
}

/// Which page of which list.
#[derive(Clone, Debug, Serialize)]
pub struct ListRequest {
    pub filter: EventFilter,
    pub facets: Vec<FacetName>,
    pub limit: u32,
    pub cursor: Option<String>,
    /// Whether a further page may be asked for.
    pub pages: bool,
}

/// The seats of an event at one moment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Availability {
    pub ticket_types: Vec<TicketTypeAvailability>,
    pub as_of: DateTime<Utc>,
}

/// The seats of one ticket type.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TicketTypeAvailability {
    pub ticket_type_id: Uuid,
    pub capacity: i64,
    pub sold: i64,
    /// In holds, including those that are being confirmed.
    pub held: i64,
    /// Kept for people on the waitlist.
    pub offered: i64,
    /// What can be held now.
    pub available: i64,
    /// Tickets that people on the waitlist wait for.
    pub waitlisted: i64,
}

impl From<&SeatCount> for TicketTypeAvailability {
    fn from(count: &SeatCount) -> Self {
        Self {
            ticket_type_id: count.ticket_type_id,
            capacity: count.capacity,
            sold: count.sold,
            held: count.held,
            offered: count.offered,
            available: count.available(),
            waitlisted: count.waitlisted,
        }
    }
}

/// `None`: there is no such event for the public.
impl Size for Option<Arc<EventAnswer>> {
    fn size(&self) -> usize {
        self.as_ref().map_or(0, |answer| answer.body.len())
    }
}

impl Size for Arc<ListAnswer> {
    fn size(&self) -> usize {
        self.body.len()
    }
}

impl Size for Arc<Vec<(Uuid, i64)>> {
    fn size(&self) -> usize {
        self.len() * size_of::<(Uuid, i64)>()
    }
}

struct Inner {
    db: Db,
    inventory: Inventory,
    shared: SharedCache,
    /// How often anything has changed, as far as this process knows.
    generation: AtomicU64,
    events: ProcessCache<Uuid, Option<Arc<EventAnswer>>, CatalogError>,
    lists: ProcessCache<(u64, [u8; 32]), Arc<ListAnswer>, CatalogError>,
    popularity: ProcessCache<(), Arc<Vec<(Uuid, i64)>>, CatalogError>,
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Catalog(Arc<Inner>);

impl Catalog {
    /// Makes the handle without connecting; [`Catalog::follow`] must run beside it in every process that reads
    /// events. `redis` is a single server.
    pub fn new(db: Db, inventory: Inventory, redis: &RedisLink) -> Result<Self, Fault> {
        Ok(Self(Arc::new(Inner {
            db,
            inventory,
            shared: SharedCache::new(redis)?,
            generation: AtomicU64::new(0),
            events: ProcessCache::new("event", EVENT_TTL, 10_000, 64 << 20),
            lists: ProcessCache::new("event_list", LIST_TTL, 1_000, 64 << 20),
            popularity: ProcessCache::new("popularity", POPULARITY_TTL, 1, 1 << 20),
        })))
    }

    /// Listens to changes that other processes make, for as long as the process lives. After every gap the
    /// process forgets all it has.
    pub async fn follow(&self) {
        loop {
            if let Err(error) = self.follow_once().await {
                tracing::warn!(%error, "no news of changed events");
            }
            self.forget_all();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn follow_once(&self) -> Result<(), Fault> {
        let mut subscription = self.0.shared.subscribe().await?;
        let generation = self.0.shared.generation().await?;
        self.forget_all();
        self.0.generation.store(generation, Ordering::Release);
        let mut messages = subscription.on_message();
        while let Some(message) = messages.next().await {
            let text: String = message.get_payload()?;
            let mut words = text.split(' ');
            if let Some(generation) = words.next().and_then(|word| word.parse().ok()) {
                self.0.generation.store(generation, Ordering::Release);
            }
            for id in words.filter_map(|word| word.parse().ok()) {
                self.0.events.remove(&id);
            }
        }
        Ok(())
    }

    fn forget_all(&self) {
        self.0.events.clear();
        self.0.lists.clear();
    }

    /// Brings inventory and caches level with a commit that changed this event; call it right after. Answers the
    /// event with the seats that can be held now. What fails here is logged: the inventory has a job for it in the
    /// outbox, and the caches forget by themselves.
    pub async fn changed(&self, mut event: Event) -> Event {
        if event.status != EventStatus::Draft
            && let Err(error) = inventory::sync_event(&self.0.inventory, &self.0.db, event.id, false).await
        {
            tracing::warn!(event_id = %event.id, %error, "the inventory will learn of this change later");
        }
        self.forget(&[(event.id, event.version)]).await;
        if let Err(error) = self.count_seats(&mut event).await {
            tracing::warn!(event_id = %event.id, %error, "answered without what is held");
        }
        event
    }

    /// Lets every process forget events that have new versions.
    pub async fn forget(&self, events: &[(Uuid, i64)]) {
        match self.0.shared.changed(events).await {
            Ok(generation) => self.0.generation.store(generation, Ordering::Release),
            Err(error) => {
                tracing::warn!(%error, "other processes will learn of this change later");
                self.0.lists.clear();
            }
        }
        for (id, _) in events {
            self.0.events.remove(id);
        }
    }

    /// One event, if it is public: published, cancelled or completed.
    pub async fn event(&self, id: Uuid) -> Result<Option<Arc<EventAnswer>>, CatalogError> {
        // Most requests end here; the future of a reading is large.
        match self.0.events.hit(&id) {
            Some(kept) => kept,
            None => Box::pin(self.0.events.get(&id, self.read_event(id))).await,
        }
    }

    async fn read_event(&self, id: Uuid) -> Result<Option<Arc<EventAnswer>>, CatalogError> {
        let kept = self.0.shared.snapshot(id).await.and_then(|body| serde_json::from_slice(&body).ok());
        let mut event: Event = match self.0.events.outcomes().redis(kept) {
            Some(event) => event,
            None => match read::find(&mut *self.0.db.conn().await?, id).await? {
                Some(StoredEvent { event, .. }) if event.status != EventStatus::Draft => {
                    let body = serde_json::to_vec(&event).map_err(Fault::from)?;
                    self.0.shared.put_snapshot(id, event.version, &body).await;
                    event
                }
                _ => return Ok(None),
            },
        };
        self.count_seats(&mut event).await?;
        Ok(Some(Arc::new(answer(&event)?)))
    }

    /// A draft, for those who may edit it.
    pub async fn draft(&self, editor: Editor, id: Uuid) -> Result<Option<EventAnswer>, CatalogError> {
        let found = read::find(&mut *self.0.db.conn().await?, id).await?;
        let draft = found.filter(|found| {
            found.event.status == EventStatus::Draft && editor.may_edit(Some(found.organizer_id))
        });
        Ok(draft.map(|found| answer(&found.event)).transpose()?)
    }

    /// Fills in what can be held now.
    async fn count_seats(&self, event: &mut Event) -> Result<(), CatalogError> {
        match event.status {
            // Nobody else knows of a draft: all of it is free.
            EventStatus::Draft => {}
            EventStatus::Published => {
                let ids: Vec<_> = event.ticket_types.iter().map(|kind| kind.id).collect();
                let (_, counts) = self.seats(event.id, &ids).await?;
                let free: HashMap<_, _> =
                    counts.iter().map(|count| (count.ticket_type_id, count.available())).collect();
                for kind in &mut event.ticket_types {
                    kind.available = free.get(&kind.id).copied().unwrap_or(0);
                }
            }
            EventStatus::Cancelled | EventStatus::Completed => {
                for kind in &mut event.ticket_types {
                    kind.available = 0;
                }
            }
        }
        Ok(())
    }

    /// Counts seats now, with an inventory that knows all of these ticket types.
    async fn seats(
        &self,
        event_id: Uuid,
        ticket_types: &[Uuid],
    ) -> Result<(DateTime<Utc>, Vec<SeatCount>), CatalogError> {
        let inventory = &self.0.inventory;
        match inventory.availability(event_id, ticket_types).await? {
            Some((as_of, counts)) if counts.len() == ticket_types.len() => return Ok((as_of, counts)),
            Some(_) => inventory::sync_event(inventory, &self.0.db, event_id, false).await?,
            None => inventory::ensure_ready(inventory, &self.0.db, event_id).await?,
        }
        inventory.availability(event_id, ticket_types).await?.ok_or(CatalogError::Rebuilding)
    }

    /// The seats of one public event, counted now. `None`: there is no such event for the public.
    pub async fn availability(&self, id: Uuid) -> Result<Option<Availability>, CatalogError> {
        let Some(event) = self.event(id).await? else { return Ok(None) };
        let (as_of, counts) = self.seats(id, &event.ticket_types).await?;
        let mut ticket_types: Vec<TicketTypeAvailability> = counts.iter().map(Into::into).collect();
        if event.status != EventStatus::Published {
            for kind in &mut ticket_types {
                kind.available = 0;
            }
        }
        Ok(Some(Availability { ticket_types, as_of }))
    }

    /// The seats of a draft, all of them free, for those who may edit it.
    pub async fn draft_availability(
        &self,
        editor: Editor,
        id: Uuid,
    ) -> Result<Option<Availability>, CatalogError> {
        let found = read::find(&mut *self.0.db.conn().await?, id).await?;
        let draft = found.filter(|found| {
            found.event.status == EventStatus::Draft && editor.may_edit(Some(found.organizer_id))
        });
        Ok(draft.map(|found| Availability {
            ticket_types: found
                .event
                .ticket_types
                .iter()
                .map(|kind| TicketTypeAvailability {
                    ticket_type_id: kind.id,
                    capacity: i64::from(kind.capacity),
                    sold: 0,
                    held: 0,
                    offered: 0,
                    available: kind.available,
                    waitlisted: 0,
                })
                .collect(),
            as_of: clock::now(),
        }))
    }

    /// One page of a list.
    pub async fn list(&self, request: &ListRequest) -> Result<Arc<ListAnswer>, CatalogError> {
        let generation = self.0.generation.load(Ordering::Acquire);
        let name = serde_json::to_vec(request).map_err(Fault::from)?;
        let key = (generation, Sha256::digest(&name).into());
        match self.0.lists.hit(&key) {
            Some(kept) => kept,
            None => Box::pin(self.0.lists.get(&key, self.read_list(request, key))).await,
        }
    }

    async fn read_list(
        &self,
        request: &ListRequest,
        (generation, hash): (u64, [u8; 32]),
    ) -> Result<Arc<ListAnswer>, CatalogError> {
        let name = format!("list:{generation}:{}", hex::encode(hash));
        let kept = self.0.shared.get(&name).await.and_then(|kept| unpack(&kept));
        if let Some(kept) = self.0.lists.outcomes().redis(kept) {
            return Ok(Arc::new(kept));
        }
        let list = self.assemble(request).await?;
        let answer = ListAnswer {
            body: serde_json::to_vec(&list).map_err(Fault::from)?.into(),
            next_cursor: list.next_cursor,
        };
        self.0.shared.put(&name, &pack(&answer), LIST_TTL).await;
        Ok(Arc::new(answer))
    }

    async fn assemble(&self, request: &ListRequest) -> Result<EventList, CatalogError> {
        let popular = match request.filter.sort {
            Sort::Popularity => self.popularity().await?,
            _ => Arc::default(),
        };
        let limit = request.limit as usize;
        let mut data = Vec::new();
        let mut next_cursor = request.cursor.clone();
        for _ in 0..MAX_BATCHES {
            let wanted = u32::try_from(limit - data.len()).unwrap_or(0);
            let (page, events) = {
                let mut conn = self.0.db.conn().await?;
                let cursor = next_cursor.as_deref();
                let page = search::search(&mut conn, &request.filter, &popular, wanted, cursor).await?;
                let events = read::find_many(&mut conn, &page.data).await?;
                (page, events)
            };
            next_cursor = page.next_cursor;
            let counted = events.into_iter().map(|StoredEvent { mut event, .. }| async move {
                self.count_seats(&mut event).await.map(|()| event)
            });
            let counted = future::try_join_all(counted).await?;
            // Postgres knows what is sold; what is merely held shows only now.
            data.extend(counted.into_iter().filter(|event| {
                !request.filter.available || event.ticket_types.iter().any(|kind| kind.available > 0)
            }));
            if next_cursor.is_none() || data.len() >= limit {
                break;
            }
        }
        let facets = if request.facets.is_empty() {
            None
        } else {
            let mut conn = self.0.db.conn().await?;
            Some(search::facets(&mut conn, &request.filter, &request.facets).await?)
        };
        let next_cursor = next_cursor.filter(|_| request.pages);
        Ok(EventList { data, next_cursor, facets })
    }

    /// What the last 7 days sold, most first.
    async fn popularity(&self) -> Result<Arc<Vec<(Uuid, i64)>>, CatalogError> {
        let load = async {
            let kept = self.0.shared.get("popularity").await;
            let kept = kept.and_then(|kept| serde_json::from_slice(&kept).ok());
            if let Some(kept) = self.0.popularity.outcomes().redis(kept) {
                return Ok(Arc::new(kept));
            }
            let found = analytics::popularity(&mut *self.0.db.conn().await?, MAX_POPULAR).await?;
            let body = serde_json::to_vec(&found).map_err(Fault::from)?;
            self.0.shared.put("popularity", &body, POPULARITY_TTL).await;
            Ok(Arc::new(found))
        };
        self.0.popularity.get(&(), load).await
    }

    /// The events that sold most in the last 7 days, then those that sold nothing, soonest entered first.
    pub async fn popular(&self, limit: u32) -> Result<Arc<ListAnswer>, CatalogError> {
        let filter = EventFilter { sort: Sort::Popularity, ..EventFilter::default() };
        let request = ListRequest { filter, facets: Vec::new(), limit, cursor: None, pages: false };
        self.list(&request).await
    }
}

fn answer(event: &Event) -> Result<EventAnswer, Fault> {
    Ok(EventAnswer {
        body: serde_json::to_vec(event)?.into(),
        etag: format!("\"v{}\"", event.version).into(),
        status: event.status,
        ticket_types: event.ticket_types.iter().map(|kind| kind.id).collect(),
    })
}

/// The cursor's line, which may be empty, and the body.
fn pack(answer: &ListAnswer) -> Vec<u8> {
    let cursor = answer.next_cursor.as_deref().unwrap_or("");
    [cursor.as_bytes(), b"\n", &answer.body].concat()
}

fn unpack(kept: &[u8]) -> Option<ListAnswer> {
    let end = kept.iter().position(|byte| *byte == b'\n')?;
    let cursor = std::str::from_utf8(&kept[..end]).ok()?;
    Some(ListAnswer {
        body: Bytes::copy_from_slice(&kept[end + 1..]),
        next_cursor: Some(cursor.to_owned()).filter(|cursor| !cursor.is_empty()),
    })
}
