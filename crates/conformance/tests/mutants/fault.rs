//! What can be wrong with a broker.

/// One defect of the in-process broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    // ---- of senders
    /// Every seventh message is confirmed and goes nowhere.
    LosesEverySeventh,
    /// Every fifth message is overtaken by the next one.
    ReordersTwo,
    /// Every fifth message is sent twice.
    DoublesOne,
    /// A message that is refused is said to be confirmed.
    ConfirmsTheRefused,
    /// A pending send has taken the message out of the slot.
    EmptiesThePendingSlot,
    /// A batch that waits is dropped.
    DropsTheBatchThatWaits,
    /// A batch is sent from behind.
    SendsBatchesBackwards,
    /// What there is no room for is kept in the sender.
    BuffersWithoutBound,
    /// The first message is number 0.
    CountsFromZero,
    /// A closed sender goes on.
    NeverCloses,
    /// A flush forgets what it was about to say when it is the first since a message.
    ForgetsOutcomes,
    /// A receipt says that every message matched one receiver.
    MiscountsMatches,
    /// A receipt says that everything is on disk.
    ClaimsToHaveStored,
    /// A sender that gave up waiting stays on the list.
    SenderStaysOnTheList,
    /// The sender cuts payloads that are too large.
    CutsPayloads,
    /// Headers do not survive.
    LosesHeaders,

    // ---- of receivers
    /// A message that a dropped receive was about to return is gone.
    LosesWhatIsGivenUp,
    /// An acked delivery comes again.
    LosesAcks,
    /// Every delivery says that it is the first attempt.
    ForgetsAttempts,
    /// A released delivery counts.
    CountsReleases,
    /// Every consumer of a queue gets every message.
    DeliversToEverybody,
    /// A receiver that gave up waiting stays on the list.
    ReceiverStaysOnTheList,
    /// A stream does not share its wake-up.
    KeepsTheWakeupOfStreams,
    /// After the end comes a wait for ever.
    EndsOnlyOnce,
    /// A batch of nothing is a batch of 0.
    HasEmptyBatches,
    /// A prefetch is no bound.
    IgnoresPrefetch,
    /// Dropping a receiver on another thread panics.
    PanicsOnOtherThreads,

    // ---- of the broker
    /// A subscription is live at its first poll only.
    SubscribesLate,
    /// A receiver whose opening was given up stays open.
    LeaksWhatIsGivenUp,
    /// A delayed retry comes at once, without a word.
    IgnoresDelays,
    /// A star matches any number of words.
    MatchesTooMuch,
    /// The ledger counts one too many.
    MiscountsCopies,
    /// Nobody says that there are no responders.
    NeverSaysNobody,
    /// Replies come to other requests.
    MixesReplies,

    // ---- of what queues and subscriptions were told; each still says that it heard
    /// A conflict is passed over in silence.
    HidesConflicts,
    /// A message is tried once more than it may be.
    TriesOnceMore,
    /// Dead letters have no history.
    ForgetsDeaths,
    /// Messages live for ever.
    IgnoresTimesToLive,
    /// Nothing is delayed.
    ForgetsDelays,
    /// A message that failed is tried again at once.
    IgnoresBackoff,
    /// All are as urgent as any other.
    IgnoresPriorities,
    /// Nothing is a duplicate.
    IgnoresIds,
    /// A key's messages are handed out at once.
    IgnoresKeys,
    /// A consumer may take for ever.
    NeverTakesBack,
    /// Queues keep what they have and drop what comes.
    DropsTheNewestOnly,
    /// A subscription that cannot keep up blocks, whatever its policy.
    BlocksForSubscribers,
    /// One that is cut off ends without a word.
    EndsInSilence,
    /// Drops happen in silence.
    TellsNoEvents,
    /// Browsing takes the first message away.
    BrowsesAway,
    /// Nobody is told that nobody waits any more.
    IgnoresCancels,
    /// A client counts what it took twice.
    CountsTakenTwice,
    /// Of many answers to one request the first comes alone.
    AnswersOnce,
    /// What retention is to let go stays for ever.
    RetainsForEver,
    /// Messages that are read do not say where they are.
    ForgetsOffsets,
    /// Who was overtaken does not hear of it.
    HidesGaps,
    /// Who wants what is new gets everything.
    BeginsAtTheBeginning,
    /// Errors say nothing.
    SaysNothing,
    /// A number that is large enough is too much for it.
    PanicsAtLargeNumbers,
}
