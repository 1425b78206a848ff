//! How a worker tells the API process that waits for it what became of a confirm: Redis pub/sub.
//!
//! At most once, so that whoever waits also looks for himself now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Booking;
use crate::{fault::Fault, inventory::Inventory, redis_link::RedisLink};

/// Confirms that one process waits for; what comes above that looks for itself.
const MOST_WAITING: usize = 20_000;
/// Between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(500);

fn channel(reply_to: &str) -> String {
    format!("evently:results:{reply_to}")
}

/// Sends a finished booking to those who wait for it.
pub async fn publish(inventory: &Inventory, reply_to: &[String], booking: &Booking) -> Result<(), Fault> {
    if reply_to.is_empty() {
        return Ok(());
    }
    let message = serde_json::to_vec(booking)?;
    let mut pipeline = redis::pipe();
    for address in reply_to {
        pipeline.publish(channel(address), &message).ignore();
    }
    let () = pipeline.query_async(&mut inventory.connection()).await?;
    Ok(())
}

type Waiting = HashMap<Uuid, Vec<oneshot::Sender<Arc<Booking>>>>;

/// The results that come to this process. Cheap to clone.
#[derive(Clone)]
pub struct Results {
    client: redis::Client,
    reply_to: Arc<str>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Results {
    /// Of the inventory's Redis. Opens no connection.
    pub fn new(link: &RedisLink) -> Self {
        let reply_to = Uuid::now_v7().simple().to_string().into();
        Self { client: link.client.clone(), reply_to, waiting: Arc::default() }
    }

    /// Subscribes, and again whenever the connection is lost. Never ends.
    pub async fn follow(&self) {
        loop {
            if let Err(error) = self.receive().await {
                tracing::warn!(%error, "results of confirms do not arrive just now");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn receive(&self) -> Result<(), Fault> {
        let mut pubsub = self.client.get_async_pubsub().await?;
        pubsub.subscribe(channel(&self.reply_to)).await?;
        let mut messages = pubsub.on_message();
        while let Some(message) = messages.next().await {
            match serde_json::from_slice::<Booking>(message.get_payload_bytes()) {
                Ok(booking) => self.deliver(booking),
                Err(error) => tracing::warn!(%error, "a result cannot be read"),
            }
        }
        Ok(())
    }

    fn deliver(&self, booking: Booking) {
        let waiters = self.lock().remove(&booking.id);
        let booking = Arc::new(booking);
        for waiter in waiters.into_iter().flatten() {
            // Whoever has gone meanwhile has no use for it.
            let _ = waiter.send(Arc::clone(&booking));
        }
    }

    /// What a confirm that is to be answered here names as its address.
    pub fn reply_to(&self) -> &str {
        &self.reply_to
    }

    /// From now on, what comes about this hold is kept for the caller. Call it before the confirm begins.
    pub fn wait_for(&self, hold_id: Uuid) -> Wait {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        let known = waiting.len();
        if known < MOST_WAITING {
            waiting.entry(hold_id).or_default().push(sender);
        }
        drop(waiting);
        Wait { hold_id, receiver: Some(receiver), results: self.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One confirm that is waited for.
pub struct Wait {
    hold_id: Uuid,
    /// None once nothing can come any more.
    receiver: Option<oneshot::Receiver<Arc<Booking>>>,
    results: Results,
}

impl Wait {
    /// The result, if it comes within this time. May be called again after it did not.
    pub async fn within(&mut self, time: Duration) -> Option<Arc<Booking>> {
        if let Some(receiver) = &mut self.receiver {
            match tokio::time::timeout(time, receiver).await {
                Ok(Ok(booking)) => return Some(booking),
                Err(_) => return None,
                // Too many wait: only looking helps.
                Ok(Err(_)) => self.receiver = None,
            }
        }
        tokio::time::sleep(time).await;
        None
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.receiver = None;
        let mut waiting = self.results.lock();
        if let Some(waiters) = waiting.get_mut(&self.hold_id) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                waiting.remove(&self.hold_id);
            }
        }
    }
}
