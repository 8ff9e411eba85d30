//! What all turns and queues of a producer share.

use std::sync::Arc;

use super::identity::Identity;
use crate::obstacle::Obstacles;
use crate::producer::buffer::budget::Budget;
use crate::producer::metrics::Counters;

/// What all turns of a producer share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) identity: Arc<Identity>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) obstacles: Arc<Obstacles>,
}
