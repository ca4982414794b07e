//! The store port: batches and codes, never Redis commands. `redis/` and `memory/` implement it and pass one contract suite.
//!
//! Three small seams: [`Reader`] and [`Writer`] belong to one worker each (own connections, no locks), [`Admin`] serves
//! everything that is not the hot loop. Semantics: semantics.md sections 2 to 6, 11.
//!
//! Past 500 lines because it is the port as a whole, nearly all of it documentation: both stores and every caller are
//! written against this one page.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::keyed::{Cell, DueTimers, Fired, Firing, StateCommit, StateLayout};
use crate::effect::Effects;
use crate::record::{EntryId, Fields, Record};

/// Names of everything in the store, resolved once from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Name of the pipeline; owner of the stream.
    pub pipeline: String,
    /// Source stream with its prefix: `S`.
    pub source: String,
    /// Every stage, inputs before outputs.
    pub stages: Vec<StageLayout>,
    /// Id window; `None` = off.
    pub dedupe: Option<Dedupe>,
    /// How long an idle session is kept.
    pub session_keep: Duration,
    /// Field of the event id.
    pub id_field: Bytes,
}

impl Layout {
    /// `{S}:suffix`.
    pub fn key(&self, suffix: &str) -> String {
        format!("{{{}}}:{suffix}", self.source)
    }

    /// The stage with this name.
    pub fn stage(&self, name: &str) -> Option<(usize, &StageLayout)> {
        self.stages.iter().enumerate().find(|(_, s)| s.name == name)
    }
}

/// One stage in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageLayout {
    /// Its name.
    pub name: String,
    /// Input stream, whole key.
    pub stream: String,
    /// Consumer group.
    pub group: String,
    /// Whether it reads the source stream: there ids are checked against the window.
    pub reads_source: bool,
    /// Output stream, whole key; `None` = terminal stage.
    pub output: Option<String>,
    /// How many stages read the output; 0 for a terminal stage.
    pub output_readers: u32,
    /// Whether it has an aggregate: then `applied` counts towards `duplicated`.
    pub aggregates: bool,
    /// Whether one owner works it in order (delivery `owned`), not several that compete.
    pub owned: bool,
    /// Keyed state of its operators; owned stages only.
    pub state: Vec<StateLayout>,
}

/// The id window (semantics.md section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dedupe {
    /// How long an id is known at least half of, by the server's clock.
    pub window: Duration,
    /// How many ids are kept at most.
    pub max_ids: u64,
}

/// Consumer of the group that holds parked entries of an owned stage.
pub const PARKED: &str = "parked";

/// Why the store did not do it, named by what the caller does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, or no answer in time: reconnect with back-off and run the same commit again.
    #[error("{0}")]
    Unavailable(String),
    /// The server is loading its data: wait.
    #[error("redis is loading its data: {0}")]
    Loading(String),
    /// The server refuses writes (a replica): reconnect, so that the master is found.
    #[error("redis refuses writes: {0}")]
    ReadOnly(String),
    /// `maxmemory` is reached: back-pressure; nothing was done.
    #[error("redis is out of memory: {0}")]
    OutOfMemory(String),
    /// The server cannot write its disk (MISCONF): back-pressure; nothing was done.
    #[error("redis cannot write its disk: {0}")]
    DiskFull(String),
    /// The group or its stream is gone (NOGROUP, UNBLOCKED): `Admin::prepare`, then read the backlog again.
    #[error("the consumer group is gone: {0}")]
    GroupGone(String),
    /// A key holds another type or a counter no integer: a person must act; nothing was done.
    #[error("{0}")]
    Broken(String),
    /// The stream belongs to another pipeline: refuse to start.
    #[error(
        "{0}; give this pipeline its own stream (event.stream) or its own keys (redis.keys_prefix)"
    )]
    Foreign(String),
    /// Wrong password, no permission: a person must act.
    #[error("{0}")]
    Denied(String),
    /// Doors only: the events are in, and have not survived in time what `redis.durability` asks for. Not accepted yet: send
    /// the same again, which waits again and is known by its ids.
    #[error("not accepted yet: {0}")]
    NotDurable(String),
    /// The answer makes no sense: a bug here or there.
    #[error("unexpected answer: {0}")]
    Bug(String),
}

impl StoreError {
    /// Whether the connection is to be thrown away.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::ReadOnly(_) | Self::Bug(_)
        )
    }
}

/// What every method answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// One delivered entry with what is known of its past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Id and fields.
    pub record: Record,
    /// Failed tries so far (`tries`).
    pub failures: u32,
    /// Not to be tried before this, milliseconds since 1970; 0 = now.
    pub not_before_ms: u64,
    /// Redis' delivery count, a backstop only; 0 = first delivery.
    pub deliveries: u64,
    /// Milliseconds since it was first read by anybody, where the store knows; 0 for new ones.
    pub first_ms: u64,
}

/// What one read brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// In stream order.
    pub entries: Vec<Delivered>,
    /// Pending ids whose payload is gone. The store has already booked them as `lost` and removed them.
    pub lost: Vec<EntryId>,
    /// Backlog and sweep only: where to go on; `None` = the end was reached.
    pub next: Option<EntryId>,
}

/// One outcome per entry; the whole is one atomic step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Consumer that holds the entries.
    pub consumer: Arc<str>,
    /// At most 500, in stream order.
    pub entries: Vec<Settle>,
    /// Run again after an ambiguous answer, or of entries that were retried or claimed: then an id that is no longer
    /// pending is [`Code::Superseded`], no alarm.
    pub repeated: bool,
}

/// What becomes of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// Entry id in the stage's input stream.
    pub id: EntryId,
    /// Event id as 16 bytes, in stages that read the source and while the window is on.
    pub event_id: Option<[u8; 16]>,
    /// What to do.
    pub outcome: Outcome,
}

/// What to do with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledge, add, and emit `effects.children` to the output stream. With an output, no children and `forward`,
    /// the commit is `Done` (applied here). Several children book `spawned`.
    Apply(Effects),
    /// Acknowledge; ended by an operator on purpose.
    Filtered,
    /// Acknowledge; too late.
    Late,
    /// Acknowledge as a duplicate, because an answer to an owner's commit said that it is one.
    Duplicate,
    /// Acknowledge and write a dead letter.
    Dead(DeadLetter),
    /// Do not acknowledge: remember the failed try.
    Retry {
        /// Not before, milliseconds since 1970.
        not_before_ms: u64,
        /// Failed tries, this one included.
        failures: u32,
        /// First read, milliseconds since 1970.
        first_ms: u64,
        /// For a person.
        error: String,
    },
}

/// A dead letter to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Fingerprint (16 hex digits).
    pub cause: String,
    /// Stable word.
    pub reason: String,
    /// For a person.
    pub error: String,
    /// Failed tries.
    pub tries: u32,
    /// First read, milliseconds since 1970.
    pub first_ms: u64,
    /// The original fields, byte for byte.
    pub fields: Fields,
}

/// What the commit did with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// Done as asked (a retry was written, too).
    Applied,
    /// Its event id is known with another entry: acknowledged, effects dropped, `deduplicated`.
    Duplicate,
    /// Not pending on a first try: a third party acknowledged it. An alarm.
    NotPending,
    /// Not pending on a repeated commit: this or another worker has finished it.
    Superseded,
    /// Was settled before and delivered again after a group reset: acknowledged, effects dropped. An alarm.
    Redelivered,
}

/// Answer to a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// `(index, code)` of the entries that were not [`Code::Applied`].
    pub exceptions: Vec<(usize, Code)>,
}

/// Reads for one consumer of one stage, over its own connection. Not cancel-safe: a dropped read may have delivered;
/// read the backlog after that.
#[async_trait]
pub trait Reader: Send {
    /// This consumer's own pending entries after `after`, oldest first.
    async fn backlog(&mut self, after: EntryId, n_records_max: usize) -> Result<Batch>;

    /// New entries; waits up to `block` for the first. Empty when none came.
    async fn next(&mut self, n_records_max: usize, block: Duration) -> Result<Batch>;
}

/// Commits and claims for one consumer of one stage, over its own connection.
#[async_trait]
pub trait Writer: Send {
    /// One atomic step. After `Unavailable` it is not known whether it happened: run the same again with `repeated`.
    async fn commit(&mut self, commit: &Commit) -> Result<Committed>;

    /// The second step of a commit that was made two on purpose, to see whether anybody notices; else nothing, because
    /// [`Writer::commit`] acknowledges.
    async fn acknowledge(&mut self, _ids: &[EntryId]) -> Result<()> {
        Ok(())
    }

    /// Heartbeat of long work: resets the idle time of those ids that this consumer still holds; never takes one back.
    /// Returns those it holds.
    async fn keep(&mut self, ids: &[EntryId]) -> Result<Vec<EntryId>>;

    /// Claims others' entries idle for at least `min_idle` whose back-off is over, from `after` on.
    async fn sweep(
        &mut self,
        min_idle: Duration,
        after: EntryId,
        n_records_max: usize,
    ) -> Result<Batch>;

    /// Claims exactly these ids where they are idle for at least `min_idle`, whatever their back-off.
    async fn claim(&mut self, ids: &[EntryId], min_idle: Duration) -> Result<Batch>;
}

/// Answer to an attempt to take a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours, from now on for the time asked for.
    Leased(Lease),
    /// Somebody else has it.
    Held {
        /// Who.
        by: String,
        /// For how much longer unless it is renewed, milliseconds.
        left_ms: u64,
    },
}

/// A lease on an owned stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Grows by one whenever the lease is taken: the fence of every commit.
    pub epoch: u64,
    /// The last applied entry: reading goes on after it.
    pub position: EntryId,
    /// Owners before this one, one after the other, that did not give the lease up and did not get past this position:
    /// 1 = the last one ended without a word, more = what comes next may be what ends them. 0 = it was given up.
    pub lives: u32,
}

/// One commit of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedCommit {
    /// The lease under which it was worked, and the position from which it was read.
    pub lease: Lease,
    /// Outcomes in stream order; `repeated` as in shared delivery. [`Outcome::Retry`] parks the entry.
    pub commit: Commit,
    /// `false`: everything that was read after the position, without gaps; the position moves to the last of them.
    /// `true`: entries that were parked before; the position stays.
    pub parked: bool,
    /// Keyed state and timers that change with it.
    pub state: Option<StateCommit>,
    /// The lease is renewed for this long.
    pub ttl: Duration,
}

/// Answer to an owner's commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedDone {
    /// Done, now or by an earlier try of the same commit.
    Done {
        /// What did not go as asked.
        committed: Committed,
        /// A foreign reader had moved the group ahead of the position, or held entries: put right.
        foreign: bool,
    },
    /// These entries would fall out, and keyed state depends on them: nothing was done. [`Code::Duplicate`] = work the rest
    /// without it and settle it as [`Outcome::Duplicate`]; [`Code::Superseded`] = it is no longer parked, leave it out.
    Again(Vec<(usize, Code)>),
    /// Keyed state is not as it was read: somebody else has changed it. Nothing was done; read it again.
    Stale,
    /// The lease is somebody else's now, or another epoch's: nothing was done. Stop at once.
    Fenced,
    /// The stored position is neither where this commit began nor where it ends (the stream began anew, the server went
    /// back to an earlier instant): nothing was done. Start again from the stored one.
    Moved,
}

/// What a renewal found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    /// The stored position; `None` = there is none (the stream began anew).
    pub position: Option<EntryId>,
    /// How many entries are parked: other than the owner knows, where a person settled some.
    pub n_parked: u64,
    /// Parked entries that are due by the store's account, at most 100: an operator may have released them.
    pub due: Vec<EntryId>,
    /// Who asks for the stage: it is given up for them.
    pub asked_by: Option<String>,
}

/// Why the lease of a stage is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// So that the owned stages are spread over the daemons. Not heard where a person gave the stage to its holder.
    Balance,
    /// A person wants it here; from then on nobody asks for it to balance, as long as it stays here.
    Take,
}

/// The one owner of an owned stage, or somebody who waits to be it; over its own connection (semantics.md section 7).
#[async_trait]
pub trait Owner: Send {
    /// Takes the lease if it is free, has run out, or is this owner's own (of a life before). Not cancel-safe: a dropped
    /// one may have happened; the lease runs out.
    async fn acquire(&mut self, ttl: Duration) -> Result<Acquired>;

    /// Asks its holder to give it up for this one; the wish is heard at the next renewal within `ttl`, and the lease then
    /// kept for who asked for a second. `false` = it will not be given up: a person gave it to its holder.
    async fn ask(&mut self, wish: Wish, ttl: Duration) -> Result<bool>;

    /// Renews it; `None` = it is lost.
    async fn renew(&mut self, epoch: u64, ttl: Duration) -> Result<Option<Renewed>>;

    /// Gives it up, if it is still this epoch's, so that the next one need not wait.
    async fn release(&mut self, epoch: u64) -> Result<()>;

    /// One atomic step: position, effects, ledger, parking, the group's own position. After `Unavailable` it is not known
    /// whether it happened: run the same again with `repeated`.
    async fn commit(&mut self, commit: &OwnedCommit) -> Result<OwnedDone>;

    /// Payloads and past of these parked entries, in the order asked for. Those whose payload is gone are booked as lost;
    /// those no longer parked are left out.
    async fn fetch(&mut self, ids: &[EntryId]) -> Result<Batch>;

    /// What is kept under these state keys (at most [`super::KEYS_MAX`]), in their order: of all of them, or of as many of the first
    /// as come to a few MiB, at least one. Cancel-safe.
    async fn load_state(&mut self, keys: &[Bytes]) -> Result<Vec<Option<Cell>>>;

    /// Timers that are due by the server's clock, at most `n_max` (and [`super::KEYS_MAX`]). Cancel-safe.
    async fn due_timers(&mut self, n_max: usize) -> Result<DueTimers>;

    /// Takes timers off and changes state, one atomic step under the fence. After `Unavailable` it is not known whether it
    /// happened: look for due timers again.
    async fn fire(&mut self, firing: &Firing) -> Result<Fired>;
}

/// What became of one id in an operator's action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Done.
    Done,
    /// It was finished before.
    AlreadyDone,
    /// Its payload is gone; booked as lost.
    Trimmed,
    /// No such id.
    NotFound,
    /// It is there and cannot be added again: it has too many fields, or its stage is configured no more.
    Unfit,
}

/// Everything that is not the hot loop. Shared by all tasks; every method is cancel-safe unless it says otherwise.
#[async_trait]
pub trait Admin: Send + Sync {
    /// Makes ready: claims the stream for this pipeline, creates missing groups (at the settled mark, never at `$`), starts
    /// or re-bases the ledger. Idempotent. Returns what it had to mend, for the event log.
    async fn prepare(&self) -> Result<Vec<Mended>>;

    /// Everything that the sampler needs, read at one instant by one read-only script.
    async fn depth(&self) -> Result<Depth>;

    /// Consumers of a stage's group.
    async fn consumers(&self, stage: usize) -> Result<Vec<ConsumerDepth>>;

    /// Pending entries of a stage with id > `after`, in id order, of one consumer or all, idle for at least `min_idle`.
    async fn pending(&self, stage: usize, query: &PendingQuery) -> Result<PendingPage>;

    /// One pending entry; `None` when it is not pending.
    async fn pending_entry(&self, stage: usize, id: EntryId) -> Result<Option<PendingRow>>;

    /// Dead letters with id < `before`, newest first, at most `n_max`.
    async fn dead(&self, before: EntryId, n_max: usize) -> Result<Vec<DeadRow>>;

    /// One dead letter.
    async fn dead_entry(&self, id: EntryId) -> Result<Option<DeadRow>>;

    /// Acknowledges pending ids unapplied (`discarded`); one fate per id.
    async fn discard(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>>;

    /// Dead-letters pending ids by hand (reason `by_operator`); one fate per id.
    async fn kill(&self, stage: usize, ids: &[EntryId], why: &str) -> Result<Vec<Fate>>;

    /// Clears the back-off of pending ids; one fate per id.
    async fn release(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>>;

    /// Adds dead letters to the input of the stage where they died, marks them redriven; one fate per id.
    async fn redrive(&self, ids: &[EntryId]) -> Result<Vec<Fate>>;

    /// Deletes dead letters; the ledger does not change. One fate per id.
    async fn purge(&self, ids: &[EntryId]) -> Result<Vec<Fate>>;

    /// Trims every stream as far as every group allows and not younger than `keep`; heals a wrong lag and books what was
    /// trimmed unread by others as lost. Purges dead letters older than `keep_dead` (zero = never).
    async fn janitor(&self, keep: Duration, keep_dead: Duration) -> Result<Swept>;

    /// Deletes a consumer that holds nothing. `Ok(n)` with n > 0: refused, it holds n entries.
    async fn retire(&self, stage: usize, consumer: &str) -> Result<u64>;

    /// Adds events to the source stream in one atomic step; with `checked`, known event ids are answered and not added.
    /// The ids added are consecutive: nothing of others lies between them. `Ok` comes only when all of them, known ones too,
    /// have survived what `redis.durability` asks for.
    async fn admit(&self, events: &[Admission], checked: bool) -> Result<Vec<Admitted>>;

    /// Adds events of a door's spool, as [`Admin::admit`] does with known ids checked, and in the same step writes down that
    /// the spool is in up to the last of them. `None` = an earlier call has added it, whose answer was lost. It does not
    /// wait for `redis.durability`: the spool keeps the events until [`Admin::survive`] has.
    async fn admit_spooled(
        &self,
        place: SpoolPlace,
        events: &[Admission],
    ) -> Result<Vec<Option<Admitted>>>;

    /// Waits until everything that is in has survived what `redis.durability` asks for.
    async fn survive(&self) -> Result<()>;

    /// Number of the last event of this life of a spool that is in; 0 = none.
    async fn spool_position(&self, life: u64) -> Result<u64>;

    /// The source stream's epoch. A new one begins when the stream is found to have gone back: behind what the store itself
    /// remembers, or behind `known`, the mark of an earlier call, which the caller keeps where the store cannot go back to.
    /// `fresh` is random and becomes part of a new epoch.
    async fn epoch(&self, known: Option<&StreamMark>, fresh: u64) -> Result<EpochSeen>;

    /// Books events that a door refused.
    async fn book_rejected(&self, n_events: u64) -> Result<()>;

    /// Totals with the `n_top` greatest products (0 = all).
    async fn aggregates(&self, n_top: usize) -> Result<Aggregates>;

    /// Count of one session; `None` = not known.
    async fn session(&self, id: &[u8]) -> Result<Option<u64>>;

    /// Entries of a stage's input with id > `after` (for `tap`), without consuming them.
    async fn peek(&self, stage: usize, after: EntryId, n_max: usize) -> Result<Vec<Record>>;

    /// Says that this daemon lives; forgotten after `ttl`. Returns the names of all that live.
    async fn beat(&self, instance: &str, ttl: Duration) -> Result<Vec<String>>;

    /// Takes this daemon off the list.
    async fn leave(&self, instance: &str) -> Result<()>;

    /// What the server is.
    async fn server(&self) -> Result<Server>;
}

/// Makes readers and writers; one value for the whole process.
#[async_trait]
pub trait Store: Send + Sync {
    /// Names in use.
    fn layout(&self) -> &Arc<Layout>;
    /// Opens a connection of its own; fails when the server is away.
    async fn reader(&self, stage: usize, consumer: &str) -> Result<Box<dyn Reader>>;
    /// Opens a connection of its own; fails when the server is away.
    async fn writer(&self, stage: usize, consumer: &str) -> Result<Box<dyn Writer>>;
    /// Opens an owner's connection to an owned stage.
    async fn owner(&self, stage: usize, consumer: &str) -> Result<Box<dyn Owner>>;
    /// Opens a reader that follows an owned stage's input after `position`, whatever its group says; its backlog are the
    /// parked entries. It delivers nothing: what it reads is nobody's until it is committed.
    async fn follow(
        &self,
        stage: usize,
        consumer: &str,
        position: EntryId,
    ) -> Result<Box<dyn Reader>>;
    /// Everything else; connects by itself, again and again.
    fn admin(&self) -> Arc<dyn Admin>;
}

/// Something `prepare` found and mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// `group.created` (first start), `group.recreated`, `group.rewound`, `group.ahead`,
    /// `parked.mended`, `stage.shared`, `stream.recreated`, `state.left`, `state.found`, `ledger.rebased`.
    pub what: &'static str,
    /// Stage, where one is meant.
    pub stage: Option<String>,
    /// For a person.
    pub detail: String,
}

/// All depths and the ledger at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Depth {
    /// The server's clock, milliseconds since 1970.
    pub now_ms: u64,
    /// Per stage, in layout order.
    pub stages: Vec<StageDepth>,
    /// The ledger of the whole.
    pub ledger: Ledger,
    /// Dead letters in the stream (redriven and uncounted ones included).
    pub dead_length: u64,
    /// Sum over the aggregate stages: total counted.
    pub aggregated: u64,
    /// Third parties' groups on our streams: `(stream, group, pending, lag, last delivered, consumers)`.
    pub foreign: Vec<ForeignGroup>,
    /// `used_memory` and `maxmemory` (0 = none); `None` where the script cannot tell.
    pub memory: Option<(u64, u64)>,
}

/// A third party's group on one of our streams; it holds back trimming.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignGroup {
    /// Stream.
    pub stream: String,
    /// Group.
    pub group: String,
    /// Delivered, not acknowledged.
    pub pending: u64,
    /// Not delivered.
    pub lag: Lag,
    /// Last delivered id.
    pub last_delivered: EntryId,
    /// Consumers in it.
    pub consumers: u64,
}

/// How much is not delivered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lag {
    /// Exactly.
    Known(u64),
    /// Counted or computed where the server does not know (deleted or trimmed entries).
    Estimate(u64),
    /// Nobody knows.
    #[default]
    Unknown,
}

/// Depth of one stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageDepth {
    /// Whether stream and group exist.
    pub present: bool,
    /// Entries in the input stream.
    pub length: u64,
    /// Consumers in the group.
    pub consumers: u64,
    /// Delivered, not acknowledged.
    pub pending: u64,
    /// Oldest pending id.
    pub oldest_pending: Option<EntryId>,
    /// Not delivered yet.
    pub lag: Lag,
    /// First entry that was not delivered yet; its milliseconds give the lag as time.
    pub first_undelivered: Option<EntryId>,
    /// The group's last delivered id.
    pub last_delivered: EntryId,
    /// The stream's last generated id.
    pub last_id: EntryId,
    /// This stage's own line.
    pub ledger: Ledger,
    /// Who works it; `None` = it is shared.
    pub owner: Option<OwnerDepth>,
}

/// Who has the lease of an owned stage, at the instant of a [`Depth`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerDepth {
    /// Consumer name of the owner; `None` = nobody has it.
    pub consumer: Option<String>,
    /// Whether it has not renewed its lease in time: it stands still or is gone, and who asks first is the next one.
    pub expired: bool,
    /// Grows by one with every change of hands.
    pub epoch: u64,
    /// Everything up to this id is finished or parked; `None` = never owned.
    pub position: Option<EntryId>,
}

/// The ledger's counters (semantics.md section 3). `unaccounted` is computed by [`Ledger::unaccounted`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Came in.
    pub accepted: u64,
    /// Added by fan-out; of one stage: by what it emitted beyond one.
    pub spawned: i64,
    /// Committed at the end (of one stage: committed here, forwarded ones included).
    pub applied: u64,
    /// Ended on purpose.
    pub filtered: u64,
    /// Too late.
    pub late: u64,
    /// Acknowledged by hand.
    pub discarded: u64,
    /// Id seen before.
    pub deduplicated: u64,
    /// Dead-lettered minus redriven.
    pub dead: i64,
    /// Gone before applied.
    pub lost: u64,
    /// Delivered, not acknowledged.
    pub pending: u64,
    /// Not delivered.
    pub undelivered: u64,
    /// Whether `undelivered` is an estimate.
    pub estimated: bool,
    /// Applied in stages with an aggregate; against `aggregated` gives `duplicated`.
    pub applied_in_aggregates: u64,
    /// Refused at a door.
    pub rejected: u64,
}

impl Ledger {
    /// accepted + spawned minus everything that became of them: 0 unless there is a bug or a third party's act.
    pub fn unaccounted(&self) -> i64 {
        let known = [
            self.applied,
            self.filtered,
            self.late,
            self.discarded,
            self.deduplicated,
            self.lost,
            self.pending,
            self.undelivered,
        ];
        let sum = known
            .iter()
            .fold(i128::from(self.dead), |sum, n| sum + i128::from(*n));
        let rest = i128::from(self.accepted) + i128::from(self.spawned) - sum;
        i64::try_from(rest).unwrap_or(if rest > 0 { i64::MAX } else { i64::MIN })
    }
}

/// One consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerDepth {
    /// Its name, a third party's bytes included.
    pub name: Bytes,
    /// Entries it holds.
    pub pending: u64,
    /// Since it last asked.
    pub idle_ms: u64,
    /// Since it last got something; `None` before Redis 7.2.
    pub inactive_ms: Option<u64>,
    /// Oldest id it holds.
    pub oldest: Option<EntryId>,
}

/// Which pending entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingQuery {
    /// Only with a greater id.
    pub after: EntryId,
    /// At most this many are looked at.
    pub n_max: usize,
    /// Only held by this consumer.
    pub consumer: Option<Bytes>,
    /// Only idle for at least this long.
    pub min_idle: Duration,
    /// Whether fields are wanted (for an expression); sizes and `trimmed` are told in any case.
    pub fields: bool,
}

/// One page of pending entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingPage {
    /// In id order.
    pub rows: Vec<PendingRow>,
    /// Where to go on; `None` = the end.
    pub next: Option<EntryId>,
}

/// One pending entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingRow {
    /// Entry id.
    pub id: EntryId,
    /// Who holds it.
    pub consumer: Bytes,
    /// Since it was last delivered, claimed or kept alive.
    pub idle_ms: u64,
    /// Redis' delivery count.
    pub deliveries: u64,
    /// Failed tries.
    pub failures: u32,
    /// Not before, milliseconds since 1970; 0 = now.
    pub not_before_ms: u64,
    /// First read, milliseconds since 1970; 0 = not known to the store.
    pub first_ms: u64,
    /// Of the last failed try.
    pub last_error: Option<String>,
    /// Bytes of its fields; `None` = trimmed.
    pub size: Option<u64>,
    /// Its fields, where they were asked for and are there.
    pub fields: Option<Fields>,
}

/// One dead letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadRow {
    /// Id in the dead-letter stream.
    pub id: EntryId,
    /// Stage where it died.
    pub stage: String,
    /// Stream it came from.
    pub origin_stream: String,
    /// Its id there.
    pub origin_id: EntryId,
    /// Fingerprint.
    pub cause: String,
    /// Stable word.
    pub reason: String,
    /// For a person.
    pub error: String,
    /// Failed tries.
    pub tries: u32,
    /// First read, milliseconds since 1970.
    pub first_ms: u64,
    /// New entry id when redriven.
    pub redriven: Option<EntryId>,
    /// Whether it counts as `dead`.
    pub counts: bool,
    /// The original fields.
    pub fields: Fields,
}

/// What the janitor did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries trimmed from all streams.
    pub trimmed: u64,
    /// Entries found trimmed unread by a third party, booked as lost now.
    pub lost_unread: u64,
    /// Dead letters purged by age.
    pub purged: u64,
}

/// One event at a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Event id as 16 bytes; used only when `checked`.
    pub event_id: Option<[u8; 16]>,
    /// Fields, `_t` included.
    pub fields: Fields,
}

/// How far a stream was. Entry ids are unique and grow within one epoch: whoever notes ids outside the store notes
/// `(epoch, id)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamMark {
    /// `number-random`; the number grows with each new epoch.
    pub epoch: String,
    /// Last id that was given.
    pub last: EntryId,
    /// Entries added so far.
    pub added: u64,
    /// Fingerprint of the last entry, hex digits; empty = it was not there any more.
    pub print: String,
}

impl StreamMark {
    /// The number in front of the epoch; 0 where there is none.
    pub fn number(&self) -> u64 {
        let digits = self.epoch.split('-').next().unwrap_or_default();
        digits.parse().unwrap_or(0)
    }

    /// What [`std::fmt::Display`] wrote; `None`: it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mark = Self {
            epoch: words.next()?.to_owned(),
            last: words.next()?.parse().ok()?,
            added: words.next()?.parse().ok()?,
            print: words.next().unwrap_or_default().to_owned(),
        };
        (words.next().is_none() && mark.number() > 0).then_some(mark)
    }
}

impl std::fmt::Display for StreamMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            epoch,
            last,
            added,
            print,
        } = self;
        write!(f, "{epoch} {last} {added} {print}")
    }
}

/// What a look at the epoch found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochSeen {
    /// As it is now.
    pub mark: StreamMark,
    /// Why the epoch is a new one, for a person; `None` = it is the one that was.
    pub why: Option<String>,
}

/// Which events of a spool these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolPlace {
    /// The spool, for one start of its daemon.
    pub life: u64,
    /// Number of the first of the events, from 1; the others follow without gaps.
    pub first: u64,
}

/// What a door did with one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Added with this id.
    Added(EntryId),
    /// Known before, with this entry id: not added.
    Duplicate(EntryId),
}

/// Totals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aggregates {
    /// Entries aggregated.
    pub total: u64,
    /// Sum of scaled values; `None` when never added to.
    pub value: Option<i64>,
    /// By type.
    pub types: Vec<(Bytes, u64)>,
    /// By product, greatest first.
    pub products: Vec<(Bytes, u64)>,
    /// Products left out.
    pub products_left: u64,
    /// Live sessions.
    pub sessions: u64,
    /// Milliseconds since 1970; 0 = never.
    pub last_updated_ms: u64,
}

/// What the server is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `redis_version` or `valkey_version`.
    pub version: String,
    /// `redis` or `valkey`.
    pub flavour: String,
    /// `standalone`, `cluster`, `sentinel`.
    pub mode: String,
    /// `used_memory`.
    pub used_memory: u64,
    /// `maxmemory`; 0 = none.
    pub max_memory: u64,
    /// `maxmemory-policy`.
    pub eviction: String,
    /// Whether the append-only file is on.
    pub append_only: bool,
    /// Id of this run of the server; changes when it restarts.
    pub run_id: String,
    /// Replicas that are connected.
    pub replicas: u64,
    /// Other things found wrong in preflight, for a person, with what to do.
    pub warnings: Vec<String>,
}
