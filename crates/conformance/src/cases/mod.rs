//! The table of all cases: the law that each shows, where it is written, and what it needs.

mod batches;
mod bounds;
mod broker;
mod cancels;
mod desk;
mod dropped_calls;
mod dropped_patterns;
mod dropped_receives;
mod dropped_sends;
mod drops;
mod durable;
mod fanout;
mod flow;
mod histories;
mod hostile;
mod letters;
mod messages;
mod order;
mod queues;
mod receiver;
mod replies;
mod requests;
mod runtime;
mod sender;
mod settings;
mod streams;
mod surveys;
mod times;
mod transport;
mod wakeups;

use crate::case::{BrokerCase, RuntimeCase, TransportCase};

pub(crate) use runtime::has_sockets;

/// Names every broker case to the macro `$then`, after the tokens that it is given.
#[doc(hidden)]
#[macro_export]
macro_rules! __broker_cases {
    ($then:ident $($args:tt)*) => {
        $crate::$then! { [$($args)*]
            S1 sender s1_pending_leaves_the_slot_full [QUEUES, BACK_PRESSURE];
            S1 sender s1_trying_hands_the_message_back_when_there_is_no_room
                [QUEUES, BACK_PRESSURE];
            S1 sender s1_an_error_leaves_the_slot_full [];
            S1 batches s1_a_batch_waits_at_the_first_that_finds_no_room [QUEUES, BACK_PRESSURE];
            S2 sender s2_taken_messages_are_numbered_from_one [];
            S2 sender s2_a_taken_message_leaves_the_slot_empty [];
            S2 sender s2_an_empty_slot_is_an_invalid_argument [];
            S2 batches s2_a_batch_is_numbered_as_single_messages_are [QUEUES];
            S3 sender s3_a_dropped_wait_leaves_the_message_unsent [QUEUES, BACK_PRESSURE];
            S3 sender s3_a_dropped_send_is_sent_wholly_or_not_at_all [QUEUES, BACK_PRESSURE];
            S3 batches s3_a_dropped_batch_is_sent_up_to_where_it_was_taken [QUEUES, BACK_PRESSURE];
            S3 dropped_sends s3_a_send_may_be_given_up_at_every_poll [QUEUES, BACK_PRESSURE];
            S3 dropped_sends s3_a_feed_may_be_given_up_at_every_poll [QUEUES, BACK_PRESSURE];
            S3 dropped_sends s3_a_slot_is_full_until_its_message_is_taken [QUEUES, BACK_PRESSURE];
            S3 dropped_sends s3_sends_given_up_at_random_lose_and_double_nothing
                [QUEUES, BACK_PRESSURE];
            S3 dropped_patterns s3_a_publish_may_be_given_up_at_every_poll [TOPICS];
            S3 dropped_patterns s3_a_send_to_a_queue_may_be_given_up_at_every_poll [QUEUES];
            S3 dropped_patterns s3_a_send_of_a_message_may_be_given_up_at_every_poll [QUEUES];
            S4 sender s4_a_flush_accounts_for_every_message [QUEUES, INSPECTION];
            S4 batches s4_a_batch_stops_at_the_one_that_is_refused [QUEUES];
            S4 batches s4_a_flush_accounts_for_every_message_of_a_batch
                [QUEUES, TOPICS, BINDINGS, INSPECTION];
            S4 sender s4_a_dropped_flush_loses_no_outcome [QUEUES];
            S4 dropped_sends s4_a_flush_may_be_given_up_at_every_poll [QUEUES, BACK_PRESSURE];
            S4 sender s4_a_refused_message_comes_back_with_its_reason [QUEUES, INSPECTION];
            S4 sender s4_refused_and_confirmed_messages_are_told_apart [QUEUES, INSPECTION];
            S4 sender s4_a_receipt_claims_no_more_than_was_reached [QUEUES, INSPECTION];
            S4 sender s4_a_level_that_is_not_reached_is_an_error [QUEUES, INSPECTION];
            S5 sender s5_sending_after_a_close_is_closed [];
            S5 batches s5_a_closed_sender_takes_nothing_of_a_batch [];
            S5 sender s5_closing_flushes_what_was_taken [QUEUES, INSPECTION];
            S5 dropped_sends s5_a_close_may_be_given_up_at_every_poll [QUEUES];
            S6 flow s6_a_stalled_consumer_stops_the_sender [QUEUES, INSPECTION, BACK_PRESSURE];
            S6 flow s6_a_stalled_subscriber_stops_the_sender [TOPICS, BACK_PRESSURE];
            S6 flow s6_bounds_in_bytes_stop_the_sender_too
                [QUEUES, INSPECTION, BYTE_LIMITS, BACK_PRESSURE];
            S6 flow s6_a_subscriptions_bounds_in_bytes_stop_the_sender_too
                [TOPICS, BYTE_LIMITS, BACK_PRESSURE];
            S6 flow s6_an_empty_queue_admits_one_larger_message
                [QUEUES, INSPECTION, BYTE_LIMITS, BACK_PRESSURE];
            S6 flow s6_room_wakes_the_waiting_sender [QUEUES, BACK_PRESSURE];
            S6 batches s6_a_batch_that_waits_goes_on_when_there_is_room [QUEUES, BACK_PRESSURE];
            S7 settings s7_what_was_taken_is_confirmed_returned_or_pending [QUEUES, ALONE];
            S7 settings s7_what_was_refused_is_not_confirmed [QUEUES, OVERFLOW, ALONE];
            R1 receiver r1_a_dropped_receive_loses_nothing [QUEUES];
            R1 receiver r1_a_dropped_batch_loses_nothing [TOPICS];
            R1 dropped_receives r1_a_receive_may_be_given_up_at_every_poll [QUEUES];
            R1 dropped_receives r1_a_subscribers_receive_may_be_given_up_at_every_poll [TOPICS];
            R1 dropped_receives r1_a_wait_for_the_next_may_be_given_up_at_every_poll [QUEUES];
            R1 dropped_receives r1_a_batch_may_be_given_up_at_every_poll [QUEUES];
            R1 dropped_receives r1_receives_given_up_at_random_lose_nothing [QUEUES];
            R1 dropped_receives r1_a_subscribers_receives_given_up_at_random_lose_nothing [TOPICS];
            R1 receiver r1_a_dropped_receiver_loses_nothing_of_its_queue [QUEUES];
            R2 receiver r2_order_per_sender_through_a_queue [QUEUES];
            R2 receiver r2_order_per_sender_through_a_topic [TOPICS];
            R2 receiver r2_what_is_given_back_goes_to_its_old_place
                [QUEUES, REDELIVERY, INSPECTION];
            R3 receiver r3_acked_never_comes_again [QUEUES, REDELIVERY];
            R3 receiver r3_a_retried_one_comes_again_one_attempt_higher [QUEUES, REDELIVERY];
            R3 receiver r3_a_dropped_one_comes_again_one_attempt_higher [QUEUES, REDELIVERY];
            R3 receiver r3_a_released_one_comes_again_uncounted [QUEUES, REDELIVERY];
            R3 receiver r3_a_rejected_one_never_comes_again [QUEUES, REDELIVERY, INSPECTION];
            R3 receiver r3_what_was_handed_out_outlives_its_receiver
                [QUEUES, REDELIVERY, INSPECTION];
            R3 receiver r3_what_was_never_seen_goes_on_uncounted [QUEUES, REDELIVERY];
            R3 receiver r3_attempts_follow_the_message_to_other_consumers [QUEUES, REDELIVERY];
            R3 receiver r3_an_automatic_delivery_is_settled_already
                [QUEUES, REDELIVERY, INSPECTION];
            R3 receiver r3_a_prefetch_bounds_what_is_unsettled [QUEUES, REDELIVERY];
            R3 receiver r3_a_delayed_retry_comes_no_earlier
                [QUEUES, REDELIVERY, RETRY_DELAY, CLOCK];
            R3 receiver r3_settled_waits_for_every_settlement [QUEUES, REDELIVERY, INSPECTION];
            R3 dropped_receives r3_settled_may_be_given_up_at_every_poll
                [QUEUES, REDELIVERY, INSPECTION];
            R4 receiver r4_a_limit_ends_the_receiver_for_good [QUEUES];
            R4 receiver r4_a_deleted_queue_ends_its_consumers [QUEUES];
            R4 receiver r4_a_closed_receiver_has_ended [TOPICS];
            R4 dropped_receives r4_a_close_of_a_receiver_may_be_given_up_at_every_poll
                [QUEUES, REDELIVERY, INSPECTION];
            R5 flow r5_a_dropped_waiting_sender_passes_its_wakeup_on [QUEUES, BACK_PRESSURE];
            R5 wakeups r5_who_gave_up_waiting_is_not_woken_for_others [QUEUES, PULL];
            R5 wakeups r5_a_wakeup_that_came_too_late_is_passed_on [QUEUES, PULL];
            R5 wakeups r5_a_dropped_handle_gives_its_wakeup_back [QUEUES];
            R5 wakeups r5_a_forgotten_stream_shares_its_wakeup [QUEUES, PULL];
            R5 wakeups r5_ready_leaves_no_registration [QUEUES, PULL];
            R5 wakeups r5_every_message_finds_a_waiting_consumer [QUEUES, PULL];
            R6 receiver r6_a_batch_is_what_is_there_up_to_its_limit [QUEUES];
            R6 receiver r6_zero_is_the_end_and_nothing_else [QUEUES, INSPECTION];
            R7 times r7_what_takes_too_long_goes_to_another
                [QUEUES, REDELIVERY, CONSUMER_TIMEOUT, CLOCK, INSPECTION];
            R7 times r7_what_is_extended_stays_with_its_consumer
                [QUEUES, REDELIVERY, CONSUMER_TIMEOUT, CLOCK, INSPECTION];
            R8 bounds r8_who_is_cut_off_for_being_full_is_told_once [TOPICS, OVERFLOW];
            R8 bounds r8_who_blocks_for_too_long_is_cut_off
                [TOPICS, OVERFLOW, CLOCK, BACK_PRESSURE];
            R8 bounds r8_who_takes_what_comes_is_never_cut_off
                [TOPICS, OVERFLOW, CLOCK, BACK_PRESSURE];
            B1 broker b1_what_is_lacking_is_unsupported_at_the_call [];
            B1 settings b1_what_needs_a_clock_says_so_without_one [QUEUES, DEAD_LETTERS];
            B2 broker b2_a_subscription_is_live_once_it_resolves [TOPICS];
            B2 broker b2_a_group_member_is_live_once_it_resolves [GROUPS];
            B2 broker b2_a_subscription_sees_nothing_from_before [TOPICS];
            B2 broker b2_a_queue_holds_while_nobody_listens [QUEUES, INSPECTION];
            B2 broker b2_opening_a_handle_declares_its_queue [QUEUES, INSPECTION];
            B3 broker b3_competing_consumers_get_each_message_once [QUEUES, INSPECTION];
            B3 broker b3_a_group_gets_each_message_once [GROUPS];
            B3 broker b3_what_a_lost_member_had_not_seen_goes_to_the_others [GROUPS, HAND_OVER];
            B4 fanout b4_every_subscription_gets_its_own_copy [TOPICS];
            B4 fanout b4_every_group_gets_one_copy [GROUPS];
            B4 fanout b4_a_queue_gets_one_copy_however_many_bindings_match
                [QUEUES, TOPICS, BINDINGS, INSPECTION];
            B4 fanout b4_a_message_to_a_queue_goes_there_alone
                [QUEUES, TOPICS, BINDINGS, INSPECTION];
            B4 fanout b4_publishing_is_all_or_nothing [QUEUES, TOPICS, BINDINGS, BACK_PRESSURE];
            B4 batches b4_a_batch_is_published_to_all_or_to_nobody
                [QUEUES, TOPICS, BINDINGS, INSPECTION, BACK_PRESSURE];
            B4 fanout b4_patterns_match_as_they_are_defined [TOPICS];
            B4 fanout b4_leading_wildcards_leave_reserved_topics_alone [TOPICS, ALONE];
            B4 fanout b4_a_subscription_that_drops_holds_nobody_up [TOPICS];
            B5 fanout b5_a_subscription_that_drops_says_what_it_missed [TOPICS];
            B5 queues b5_a_queue_tells_what_it_holds
                [QUEUES, BINDINGS, INSPECTION, BYTE_LIMITS, BACK_PRESSURE];
            B5 queues b5_every_copy_is_accounted_for [QUEUES, TOPICS, BINDINGS, INSPECTION, ALONE];
            B5 queues b5_unmatched_messages_are_counted_beside_the_balance [INSPECTION, ALONE];
            B5 queues b5_what_a_subscription_leaves_behind_is_dropped_and_counted
                [TOPICS, INSPECTION, ALONE];
            B5 queues b5_a_full_subscription_that_drops_is_booked [TOPICS, INSPECTION, ALONE];
            B5 queues b5_queues_are_listed_by_name [QUEUES, INSPECTION];
            B5 queues b5_subscriptions_are_counted_while_they_live
                [TOPICS, GROUPS, INSPECTION, ALONE];
            B5 queues b5_deleting_drops_and_counts_what_was_held
                [QUEUES, BINDINGS, INSPECTION, ALONE];
            B5 queues b5_a_drain_waits_for_what_was_handed_out
                [QUEUES, MANUAL_ACK, DRAIN, CLOCK, ALONE];
            B5 queues b5_a_drain_gives_up_in_time_and_says_so
                [QUEUES, MANUAL_ACK, DRAIN, CLOCK, ALONE];
            B5 dropped_calls b5_a_drain_may_be_given_up_at_every_poll
                [QUEUES, INSPECTION, DRAIN, CLOCK, ALONE];
            B5 queues b5_expired_messages_are_not_handed_out [QUEUES, INSPECTION, DEADLINES, CLOCK];
            B6 broker b6_a_dropped_pending_receiver_leaves_nothing_behind
                [QUEUES, TOPICS, GROUPS, INBOXES, INSPECTION];
            B6 broker b6_a_dropped_declare_declared_or_did_not [QUEUES, BACK_PRESSURE];
            B6 dropped_calls b6_opening_a_sender_may_be_given_up_at_every_poll [QUEUES, INSPECTION];
            B6 dropped_calls b6_opening_a_receiver_may_be_given_up_at_every_poll
                [QUEUES, TOPICS, GROUPS, INSPECTION];
            B6 dropped_calls b6_opening_a_consumer_may_be_given_up_at_every_poll
                [QUEUES, INSPECTION];
            B6 dropped_calls b6_opening_an_inbox_may_be_given_up_at_every_poll
                [INBOXES, INSPECTION, ALONE];
            B6 dropped_calls b6_a_declaration_may_be_given_up_at_every_poll
                [QUEUES, INSPECTION, BACK_PRESSURE];
            B6 dropped_calls b6_deleting_may_be_given_up_at_every_poll [QUEUES, INSPECTION];
            B6 dropped_patterns b6_subscribing_may_be_given_up_at_every_poll
                [QUEUES, TOPICS, GROUPS, INSPECTION];
            B6 hostile b6_a_queue_may_come_and_go_under_load [QUEUES, INSPECTION, BACK_PRESSURE];
            B6 hostile b6_a_bound_queue_may_be_published_to_while_it_goes
                [QUEUES, TOPICS, BINDINGS, BACK_PRESSURE];
            B7 queues b7_declaring_again_keeps_what_is_not_named
                [QUEUES, BINDINGS, INSPECTION, BYTE_LIMITS, BACK_PRESSURE];
            B7 queues b7_a_larger_capacity_lets_waiting_senders_go_on [QUEUES, BACK_PRESSURE];
            B7 queues b7_deleting_lets_waiting_senders_go_on [QUEUES, BINDINGS, BACK_PRESSURE];
            B7 queues b7_a_queue_that_is_not_there_is_not_found [QUEUES];
            B7 queues b7_a_name_can_be_used_again_after_deleting [QUEUES, INSPECTION];
            B7 settings b7_a_queue_tells_every_setting
                [QUEUES, INSPECTION, DEAD_LETTERS, BACK_PRESSURE];
            B7 settings b7_a_time_of_zero_switches_its_setting_off
                [QUEUES, INSPECTION, DEADLINES, DEAD_LETTERS];
            B7 settings b7_a_conflict_names_the_field_and_changes_nothing
                [QUEUES, INSPECTION, KEYED_ORDER, BACK_PRESSURE];
            B7 settings b7_a_declaration_that_makes_no_sense_is_refused
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B7 times b7_a_queue_that_nobody_uses_goes_at_its_expiry
                [QUEUES, INSPECTION, CONSUMER_TIMEOUT, CLOCK];
            B8 letters b8_what_was_tried_too_often_dies_with_its_history
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B8 letters b8_what_was_rejected_dies_at_once [QUEUES, DEAD_LETTERS];
            B8 letters b8_a_dropped_delivery_says_so_in_the_history [QUEUES, DEAD_LETTERS];
            B8 letters b8_without_a_dead_letter_queue_it_is_dropped_and_counted
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B8 letters b8_a_dead_letter_queue_that_is_not_there_is_declared
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B8 letters b8_a_history_grows_with_every_death [QUEUES, DEAD_LETTERS];
            B8 letters b8_a_letter_never_goes_where_it_died_before
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B8 letters b8_a_full_dead_letter_queue_holds_letters_at_their_source
                [QUEUES, INSPECTION, DEAD_LETTERS, BACK_PRESSURE];
            B8 letters b8_a_topics_copy_dies_alone [QUEUES, TOPICS, BINDINGS, DEAD_LETTERS];
            B8 letters b8_a_poisoned_message_holds_up_no_other [QUEUES, INSPECTION, DEAD_LETTERS];
            B9 times b9_what_outlives_its_queues_time_goes_without_a_consumer
                [QUEUES, INSPECTION, DEADLINES, DEAD_LETTERS, CLOCK];
            B9 times b9_the_earlier_of_deadline_and_time_to_live_counts
                [QUEUES, INSPECTION, DEADLINES, DEAD_LETTERS, CLOCK];
            B9 times b9_what_expires_makes_room
                [QUEUES, INSPECTION, DEADLINES, DEAD_LETTERS, CLOCK, BACK_PRESSURE];
            B9 times b9_what_was_handed_out_in_time_can_be_settled
                [QUEUES, INSPECTION, DEADLINES, DEAD_LETTERS, CLOCK];
            B10 times b10_a_delayed_message_waits_its_time_in_a_queue
                [QUEUES, INSPECTION, DELAY, CLOCK];
            B10 times b10_a_delayed_message_waits_its_time_on_a_topic [TOPICS, DELAY, CLOCK];
            B10 times b10_delayed_messages_come_when_they_are_due [QUEUES, DELAY, CLOCK];
            B10 times b10_backoff_doubles_with_every_attempt [QUEUES, RETRY_DELAY, DELAY, CLOCK];
            B10 times b10_what_is_in_backoff_holds_up_no_other
                [QUEUES, INSPECTION, RETRY_DELAY, DELAY, CLOCK];
            B11 order b11_the_highest_priority_goes_first [QUEUES, PRIORITY];
            B11 order b11_what_comes_again_keeps_its_priority_and_place
                [QUEUES, INSPECTION, PRIORITY];
            B11 order b11_keyed_queues_know_no_priorities [QUEUES, PRIORITY, KEYED_ORDER];
            B12 order b12_a_known_id_is_confirmed_and_not_taken [QUEUES, INSPECTION, DEDUPLICATION];
            B12 order b12_without_an_id_nothing_is_a_duplicate [QUEUES, INSPECTION, DEDUPLICATION];
            B12 order b12_each_queue_remembers_for_itself
                [QUEUES, BINDINGS, INSPECTION, DEDUPLICATION];
            B12 order b12_an_id_is_forgotten_after_its_window
                [QUEUES, INSPECTION, DEDUPLICATION, CLOCK];
            B12 order b12_a_full_queue_confirms_what_it_knows
                [QUEUES, INSPECTION, DEDUPLICATION, BACK_PRESSURE];
            B12 order b12_full_queues_that_reject_confirm_what_all_of_them_know
                [QUEUES, BINDINGS, INSPECTION, DEDUPLICATION, OVERFLOW];
            B12 histories b12_a_known_id_is_not_retained_again
                [QUEUES, INSPECTION, DEDUPLICATION, REPLAY];
            B13 order b13_each_key_comes_in_order_and_one_at_a_time
                [QUEUES, INSPECTION, KEYED_ORDER];
            B13 order b13_a_key_that_waits_holds_up_no_other
                [QUEUES, INSPECTION, KEYED_ORDER, RETRY_DELAY, CLOCK];
            B13 order b13_a_dead_letter_lets_its_key_go_on [QUEUES, KEYED_ORDER, DEAD_LETTERS];
            B13 order b13_a_lost_consumer_gives_its_keys_to_the_others [QUEUES, KEYED_ORDER];
            B13 order b13_what_has_no_key_waits_for_nothing [QUEUES, KEYED_ORDER];
            B13 order b13_an_expired_head_lets_its_key_go_on
                [QUEUES, INSPECTION, KEYED_ORDER, DEADLINES, CLOCK];
            B13 order b13_a_topics_messages_keep_their_keys_order_too
                [QUEUES, BINDINGS, KEYED_ORDER];
            B14 bounds b14_a_queue_that_rejects_gives_the_message_back
                [QUEUES, INSPECTION, OVERFLOW];
            B14 bounds b14_one_that_rejects_gives_back_what_all_were_to_have
                [QUEUES, TOPICS, BINDINGS, INSPECTION, OVERFLOW];
            B14 bounds b14_a_queue_drops_its_newest [QUEUES, INSPECTION, OVERFLOW];
            B14 bounds b14_a_queue_drops_its_oldest [QUEUES, INSPECTION, OVERFLOW];
            B14 bounds b14_what_is_handed_out_is_never_dropped [QUEUES, INSPECTION, OVERFLOW];
            B14 bounds b14_a_subscription_drops_its_newest [TOPICS, OVERFLOW];
            B14 bounds b14_a_subscription_drops_its_oldest [TOPICS, OVERFLOW];
            B14 bounds b14_the_latest_of_each_key_takes_its_predecessors_place [TOPICS, OVERFLOW];
            B14 bounds b14_without_a_key_the_topic_is_the_key [TOPICS, OVERFLOW];
            B14 bounds b14_what_subscriptions_drop_is_booked [TOPICS, INSPECTION, OVERFLOW, ALONE];
            B14 bounds b14_a_policy_that_does_not_suit_is_refused [QUEUES, TOPICS, OVERFLOW];
            B15 bounds b15_one_that_stalls_keeps_nothing_from_the_others [TOPICS, OVERFLOW];
            B16 bounds b16_a_queues_drops_are_events [QUEUES, INSPECTION, OVERFLOW, EVENTS];
            B16 bounds b16_a_subscriptions_drops_are_events [TOPICS, OVERFLOW, EVENTS];
            B16 bounds b16_who_does_not_read_events_holds_nobody_up [QUEUES, OVERFLOW, EVENTS];
            B17 desk b17_browsing_shows_what_is_held_and_leaves_it_there
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B17 desk b17_browsing_cuts_what_is_large [QUEUES, INSPECTION, DEAD_LETTERS];
            B17 desk b17_purging_drops_what_is_not_handed_out [QUEUES, INSPECTION, DEAD_LETTERS];
            B17 desk b17_purging_lets_waiting_senders_go_on
                [QUEUES, INSPECTION, DEAD_LETTERS, BACK_PRESSURE];
            B17 desk b17_replaying_puts_dead_letters_back [QUEUES, INSPECTION, DEAD_LETTERS];
            B17 desk b17_what_cannot_be_replayed_stays_and_says_why
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B17 desk b17_a_full_queue_takes_no_more_letters_than_it_may
                [QUEUES, INSPECTION, DEAD_LETTERS, BACK_PRESSURE];
            B17 desk b17_a_queue_that_is_not_there_is_not_found [QUEUES, INSPECTION, DEAD_LETTERS];
            B17 dropped_calls b17_looking_may_be_given_up_at_every_poll
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B17 dropped_calls b17_purging_may_be_given_up_at_every_poll
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B17 dropped_calls b17_replaying_may_be_given_up_at_every_poll
                [QUEUES, INSPECTION, DEAD_LETTERS];
            B18 histories b18_every_reader_gets_everything_in_order [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_one_that_stops_goes_on_at_its_offset [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_one_for_what_is_new_sees_nothing_from_before
                [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_a_time_begins_with_what_came_then [QUEUES, INSPECTION, REPLAY, CLOCK];
            B18 histories b18_a_bound_in_messages_lets_the_oldest_go [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_a_bound_in_bytes_lets_the_oldest_go [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_an_age_lets_go_what_nobody_reads [QUEUES, INSPECTION, REPLAY, CLOCK];
            B18 histories b18_the_last_of_each_key_stays [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_one_that_is_overtaken_hears_how_much_it_missed
                [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_all_who_wait_are_woken [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_receives_given_up_lose_nothing [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_a_limit_ends_a_reader [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_what_makes_no_sense_is_refused [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_purging_and_browsing_are_as_ever [QUEUES, INSPECTION, REPLAY];
            B18 histories b18_a_topics_messages_are_retained
                [QUEUES, INSPECTION, REPLAY, TOPICS, BINDINGS];
            B18 histories b18_a_request_finds_nobody_in_it
                [QUEUES, INSPECTION, REPLAY, INBOXES, NO_RESPONDERS];
            B19 durable b19_a_receipt_says_how_safe_a_message_is [QUEUES, INSPECTION, DURABILITY];
            B19 durable b19_the_least_safe_copy_counts
                [QUEUES, INSPECTION, DURABILITY, TOPICS, BINDINGS];
            B19 durable b19_another_durability_is_a_conflict [QUEUES, INSPECTION, DURABILITY];
            B19 durable b19_what_was_confirmed_is_there_again_in_order
                [QUEUES, INSPECTION, DURABILITY, REOPENING];
            B19 durable b19_what_was_written_is_there_again
                [QUEUES, INSPECTION, DURABILITY, REOPENING];
            B19 durable b19_a_message_is_there_again_as_it_was_sent
                [QUEUES, INSPECTION, DURABILITY, REOPENING];
            B19 durable b19_what_was_settled_does_not_come_again
                [QUEUES, INSPECTION, DURABILITY, REOPENING, REDELIVERY];
            B19 durable b19_what_was_handed_out_comes_again_one_attempt_higher
                [QUEUES, INSPECTION, DURABILITY, REOPENING, REDELIVERY];
            B19 durable b19_queues_are_there_again_as_they_were_declared
                [QUEUES, INSPECTION, DURABILITY, REOPENING];
            B19 durable b19_what_was_deleted_or_purged_stays_away
                [QUEUES, INSPECTION, DURABILITY, REOPENING, DEAD_LETTERS];
            B19 durable b19_bindings_are_there_again
                [QUEUES, INSPECTION, DURABILITY, REOPENING, TOPICS, BINDINGS];
            B19 durable b19_what_is_not_durable_is_gone [QUEUES, INSPECTION, DURABILITY, REOPENING];
            B19 durable b19_dead_letters_are_there_again_with_their_history
                [QUEUES, INSPECTION, DURABILITY, REOPENING, REDELIVERY, DEAD_LETTERS];
            B19 durable b19_a_known_id_is_known_again
                [QUEUES, INSPECTION, DURABILITY, REOPENING, DEDUPLICATION];
            B19 durable b19_what_is_delayed_comes_at_its_time
                [QUEUES, INSPECTION, DURABILITY, REOPENING, DELAY, CLOCK];
            B19 durable b19_what_is_in_backoff_waits_on
                [QUEUES, INSPECTION, DURABILITY, REOPENING, REDELIVERY, RETRY_DELAY, CLOCK];
            B19 durable b19_a_time_to_live_goes_on
                [QUEUES, INSPECTION, DURABILITY, REOPENING, DEADLINES, CLOCK];
            B19 durable b19_priorities_are_there_again
                [QUEUES, INSPECTION, DURABILITY, REOPENING, PRIORITY];
            B19 durable b19_a_key_comes_in_order_again
                [QUEUES, INSPECTION, DURABILITY, REOPENING, REDELIVERY, KEYED_ORDER];
            B19 durable b19_offsets_go_on [QUEUES, INSPECTION, DURABILITY, REOPENING, REPLAY];
            D1 drops d1_handles_may_be_dropped_in_any_order [QUEUES, TOPICS, GROUPS, INBOXES];
            D1 drops d1_handles_may_be_dropped_outside_any_runtime
                [QUEUES, TOPICS, GROUPS, INBOXES, INSPECTION];
            D1 drops d1_pending_futures_may_be_dropped_outside_any_runtime [QUEUES, BACK_PRESSURE];
            D1 drops d1_deliveries_may_be_settled_outside_any_runtime [QUEUES, REDELIVERY];
            D1 drops d1_handles_outlive_the_broker_value [QUEUES, TOPICS];
            D1 drops d1_a_closed_handle_may_be_used_and_closed_again [QUEUES];
            D1 drops d1_futures_may_be_dropped_at_any_poll [QUEUES, INSPECTION];
            D1 dropped_patterns d1_what_a_bus_drops_leaves_no_one_waiting [TOPICS];
            D1 hostile d1_ten_thousand_subscriptions_leave_nothing [TOPICS, INSPECTION, ALONE];
            D1 hostile d1_a_waker_that_panics_harms_nobody_else [QUEUES, INSPECTION, PULL];
            D1 hostile d1_what_a_dropped_batch_holds_comes_again [QUEUES, REDELIVERY];
            D2 messages d2_any_bytes_pass_as_a_payload [TOPICS];
            D2 messages d2_the_largest_payload_passes [QUEUES];
            D2 messages d2_one_byte_more_is_too_large [QUEUES];
            D2 messages d2_large_and_small_messages_keep_their_order [QUEUES];
            D2 messages d2_properties_arrive_as_they_were_sent [QUEUES, TOPICS];
            D2 messages d2_the_most_headers_and_the_longest_topic_pass [QUEUES, TOPICS, ANY_NAME];
            D2 messages d2_invalid_addresses_are_refused_before_they_travel [TOPICS];
            D2 messages d2_a_queue_may_have_any_valid_name [QUEUES, ANY_NAME];
            D3 settings d3_an_error_is_one_sentence [QUEUES, TOPICS, INSPECTION, BACK_PRESSURE];
            D4 settings d4_numbers_beyond_all_sense_are_limits
                [QUEUES, TOPICS, REDELIVERY, BACK_PRESSURE];
            D4 settings d4_times_beyond_all_sense_are_limits
                [TOPICS, GROUPS, INBOXES, DRAIN, CLOCK, ALONE, BACK_PRESSURE];
            D4 settings d4_an_opened_limit_of_zero_has_ended [QUEUES];
            D4 settings d4_an_operators_numbers_are_limits_too [QUEUES, INSPECTION, DEAD_LETTERS];
            Q1 requests q1_every_reply_finds_its_requester [GROUPS, INBOXES];
            Q1 requests q1_a_failed_request_has_its_responders_words [GROUPS, INBOXES];
            Q1 requests q1_a_dropped_request_frees_its_slot [GROUPS, INBOXES];
            Q1 requests q1_a_request_ends_at_its_deadline [GROUPS, INBOXES, CLOCK];
            Q1 dropped_patterns q1_a_request_may_be_given_up_at_every_poll [GROUPS, INBOXES];
            Q1 dropped_patterns q1_serving_may_be_given_up_at_every_poll [GROUPS, INBOXES];
            Q1 dropped_patterns q1_requests_given_up_at_random_mix_nothing_up [GROUPS, INBOXES];
            Q1 requests q1_a_deadline_without_a_clock_is_unsupported [];
            Q1 requests q1_responders_of_a_group_share_the_work [GROUPS, INBOXES];
            Q1 requests q1_responders_of_a_queue_share_the_work
                [QUEUES, INBOXES, BINDINGS, INSPECTION];
            Q1 requests q1_inboxes_have_addresses_of_their_own [TOPICS, INBOXES, ALONE];
            Q1 requests q1_a_full_inbox_holds_nobody_up [INBOXES];
            Q1 cancels q1_many_answers_come_to_one_inbox [TOPICS, INBOXES];
            Q2 requests q2_a_request_to_nobody_is_answered_at_once [INBOXES, NO_RESPONDERS];
            Q2 requests q2_a_message_to_nobody_is_answered_by_nobody [INBOXES, NO_RESPONDERS];
            Q2 requests q2_the_bus_says_no_responders [GROUPS, INBOXES, NO_RESPONDERS];
            Q2 requests q2_a_queue_without_consumers_is_nobody
                [QUEUES, INBOXES, NO_RESPONDERS, INSPECTION];
            Q2 requests q2_a_request_that_waits_is_answered_later
                [QUEUES, GROUPS, INBOXES, NO_RESPONDERS, INSPECTION];
            Q2 requests q2_a_dropped_request_tells_its_requester [GROUPS, INBOXES, NO_RESPONDERS];
            Q2 requests q2_a_lost_responder_tells_every_requester [GROUPS, INBOXES, NO_RESPONDERS];
            Q2 surveys q2_a_reply_that_is_given_up_leaves_nobody_waiting
                [GROUPS, INBOXES, NO_RESPONDERS];
            Q2 surveys q2_a_failure_that_is_given_up_leaves_nobody_waiting
                [GROUPS, INBOXES, NO_RESPONDERS];
            Q3 cancels q3_what_waits_in_a_queue_is_removed
                [QUEUES, INBOXES, INSPECTION, CANCELLATION];
            Q3 cancels q3_who_works_on_it_is_told
                [QUEUES, GROUPS, INBOXES, INSPECTION, CANCELLATION];
            Q3 cancels q3_cancelling_one_leaves_the_others_alone [QUEUES, INBOXES, CANCELLATION];
            Q3 cancels q3_a_request_that_is_dropped_is_cancelled [GROUPS, INBOXES, CANCELLATION];
            Q4 surveys q4_a_survey_tells_every_answer_and_who_is_missing
                [GROUPS, INBOXES, NO_RESPONDERS, MATCH_COUNT];
            Q4 surveys q4_a_survey_of_nobody_has_no_answers [INBOXES, NO_RESPONDERS, MATCH_COUNT];
            Q4 surveys q4_a_survey_ends_at_its_deadline [GROUPS, INBOXES, CLOCK, MATCH_COUNT];
            Q4 surveys q4_a_survey_may_be_given_up_at_every_poll
                [GROUPS, INBOXES, NO_RESPONDERS, MATCH_COUNT];
            Q5 replies q5_a_stream_comes_whole_and_in_order [GROUPS, INBOXES];
            Q5 replies q5_a_stream_comes_no_faster_than_it_is_read [GROUPS, INBOXES];
            Q5 replies q5_a_stream_that_is_dropped_tells_who_asked [GROUPS, INBOXES, NO_RESPONDERS];
            Q5 replies q5_who_drops_a_stream_stops_who_writes_it [GROUPS, INBOXES, CANCELLATION];
            Q5 replies q5_reading_may_be_given_up_at_every_poll [GROUPS, INBOXES, NO_RESPONDERS];
            Q5 replies q5_writing_may_be_given_up_at_every_poll [GROUPS, INBOXES];
        }
    };
}

/// Names every transport case to the macro `$then`, after the tokens that it is given.
#[doc(hidden)]
#[macro_export]
macro_rules! __transport_cases {
    ($then:ident $($args:tt)*) => {
        $crate::$then! { [$($args)*]
            T1 transport t1_bytes_arrive_in_order_both_ways [];
            T1 transport t1_the_end_of_one_direction_is_visible_while_the_other_runs [];
            T1 transport t1_what_was_written_before_a_close_arrives [];
            T1 transport t1_a_dropped_connection_ends_the_other [];
            T1 transport t1_connections_do_not_mix [];
            T1 transport t1_a_connection_that_nobody_reads_fills_up [];
            T2 transport t2_a_stalled_peer_does_not_hold_up_accept [];
            T2 transport t2_a_peer_that_left_does_not_hold_up_accept [];
            T2 transport t2_a_dropped_accept_loses_no_connection [];
            T3 transport t3_reads_may_be_cut_anywhere [];
            T3 transport t3_writes_may_be_cut_anywhere [];
            T3 transport t3_vectored_writes_may_be_cut_anywhere [];
            T3 transport t3_a_dropped_read_or_write_loses_no_byte [];
            T4 transport t4_a_listener_says_where_it_can_be_reached [];
            T4 transport t4_nobody_there_is_an_error [];
            T4 transport t4_an_address_in_use_is_an_error [];
            T4 transport t4_an_address_is_free_after_its_listener [];
            D1 transport d1_transport_handles_may_be_dropped_anywhere [];
        }
    };
}

/// Names every runtime case to the macro `$then`, after the tokens that it is given.
#[doc(hidden)]
#[macro_export]
macro_rules! __runtime_cases {
    ($then:ident $($args:tt)*) => {
        $crate::$then! { [$($args)*]
            X1 runtime x1_a_task_may_be_spawned_from_any_thread [];
            X1 runtime x1_a_task_may_spawn_another [];
            X1 runtime x1_a_task_is_woken_from_any_thread [];
            X1 runtime x1_blocking_work_may_spawn_and_holds_up_no_task [];
            X2 runtime x2_now_never_goes_back [];
            X2 runtime x2_now_is_one_clock_on_every_thread [];
            X3 runtime x3_a_timer_is_never_early [];
            X3 runtime x3_a_timer_that_has_fired_waits_for_its_next_deadline [];
            X3 runtime x3_a_later_deadline_takes_the_place_of_an_earlier_one [];
            X3 runtime x3_an_earlier_deadline_takes_the_place_of_a_later_one [];
            X3 runtime x3_a_timer_that_was_never_armed_stays_pending [];
            X3 runtime x3_a_timer_wakes_who_polled_it_last [];
            X4 runtime x4_an_acceptor_is_woken_by_a_connection [SOCKETS];
            X4 runtime x4_a_reader_is_woken_by_bytes [SOCKETS];
            X4 runtime x4_a_writer_is_woken_by_room [SOCKETS];
            X4 runtime x4_a_socket_that_was_connecting_carries_bytes [SOCKETS];
            X4 runtime x4_sockets_work_in_tasks_of_the_runtime [SOCKETS];
        }
    };
}

/// Makes the table of the cases that are named.
#[doc(hidden)]
#[macro_export]
macro_rules! __case_table {
    ([] $($law:ident $module:ident $name:ident [$($need:ident),*];)+) => {
        &[$($crate::Case {
            law: $crate::Law::$law,
            name: stringify!($name),
            needs: &[$($crate::case::needs::$need),*],
            run: |with| Box::pin($module::$name(with)),
        }),+]
    };
}

/// Every broker case, in the order of the laws.
pub static BROKER_CASES: &[BrokerCase] = __broker_cases!(__case_table);

/// Every transport case, in the order of the laws.
pub static TRANSPORT_CASES: &[TransportCase] = __transport_cases!(__case_table);

/// Every runtime case, in the order of the laws.
pub static RUNTIME_CASES: &[RuntimeCase] = __runtime_cases!(__case_table);
