//! The table of all cases: the law that each shows, where it is written, and what it needs.

mod broker;
mod drops;
mod fanout;
mod flow;
mod messages;
mod queues;
mod receiver;
mod requests;
mod runtime;
mod sender;
mod streams;
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
            S1 sender s1_pending_leaves_the_slot_full [QUEUES];
            S1 sender s1_trying_hands_the_message_back_when_there_is_no_room [QUEUES];
            S1 sender s1_an_error_leaves_the_slot_full [];
            S2 sender s2_taken_messages_are_numbered_from_one [];
            S2 sender s2_a_taken_message_leaves_the_slot_empty [];
            S2 sender s2_an_empty_slot_is_an_invalid_argument [];
            S3 sender s3_a_dropped_wait_leaves_the_message_unsent [QUEUES];
            S3 sender s3_a_dropped_send_is_sent_wholly_or_not_at_all [QUEUES];
            S4 sender s4_a_flush_accounts_for_every_message [QUEUES, INSPECTION];
            S4 sender s4_a_dropped_flush_loses_no_outcome [QUEUES];
            S4 sender s4_a_refused_message_comes_back_with_its_reason [QUEUES, INSPECTION];
            S4 sender s4_refused_and_confirmed_messages_are_told_apart [QUEUES, INSPECTION];
            S4 sender s4_a_receipt_claims_no_more_than_was_reached [QUEUES, INSPECTION];
            S4 sender s4_a_level_that_is_not_reached_is_an_error [QUEUES, INSPECTION];
            S5 sender s5_sending_after_a_close_is_closed [];
            S5 sender s5_closing_flushes_what_was_taken [QUEUES, INSPECTION];
            S6 flow s6_a_stalled_consumer_stops_the_sender [QUEUES, INSPECTION];
            S6 flow s6_a_stalled_subscriber_stops_the_sender [TOPICS];
            S6 flow s6_bounds_in_bytes_stop_the_sender_too [QUEUES, INSPECTION, BYTE_LIMITS];
            S6 flow s6_a_subscriptions_bounds_in_bytes_stop_the_sender_too [TOPICS, BYTE_LIMITS];
            S6 flow s6_an_empty_queue_admits_one_larger_message [QUEUES, INSPECTION, BYTE_LIMITS];
            S6 flow s6_room_wakes_the_waiting_sender [QUEUES];
            R1 receiver r1_a_dropped_receive_loses_nothing [QUEUES];
            R1 receiver r1_a_dropped_batch_loses_nothing [TOPICS];
            R1 receiver r1_a_dropped_receiver_loses_nothing_of_its_queue [QUEUES];
            R2 receiver r2_order_per_sender_through_a_queue [QUEUES];
            R2 receiver r2_order_per_sender_through_a_topic [TOPICS];
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
            R4 receiver r4_a_limit_ends_the_receiver_for_good [QUEUES];
            R4 receiver r4_a_deleted_queue_ends_its_consumers [QUEUES];
            R4 receiver r4_a_closed_receiver_has_ended [TOPICS];
            R5 flow r5_a_dropped_waiting_sender_passes_its_wakeup_on [QUEUES];
            R5 wakeups r5_who_gave_up_waiting_is_not_woken_for_others [QUEUES, PULL];
            R5 wakeups r5_a_wakeup_that_came_too_late_is_passed_on [QUEUES, PULL];
            R5 wakeups r5_a_dropped_handle_gives_its_wakeup_back [QUEUES];
            R5 wakeups r5_a_forgotten_stream_shares_its_wakeup [QUEUES, PULL];
            R5 wakeups r5_ready_leaves_no_registration [QUEUES, PULL];
            R5 wakeups r5_every_message_finds_a_waiting_consumer [QUEUES, PULL];
            R6 receiver r6_a_batch_is_what_is_there_up_to_its_limit [QUEUES];
            R6 receiver r6_zero_is_the_end_and_nothing_else [QUEUES, INSPECTION];
            B1 broker b1_what_is_lacking_is_unsupported_at_the_call [];
            B2 broker b2_a_subscription_is_live_once_it_resolves [TOPICS];
            B2 broker b2_a_group_member_is_live_once_it_resolves [GROUPS];
            B2 broker b2_a_subscription_sees_nothing_from_before [TOPICS];
            B2 broker b2_a_queue_holds_while_nobody_listens [QUEUES, INSPECTION];
            B2 broker b2_opening_a_handle_declares_its_queue [QUEUES, INSPECTION];
            B3 broker b3_competing_consumers_get_each_message_once [QUEUES, INSPECTION];
            B3 broker b3_a_group_gets_each_message_once [GROUPS];
            B3 broker b3_what_a_lost_member_had_not_seen_goes_to_the_others [GROUPS];
            B4 fanout b4_every_subscription_gets_its_own_copy [TOPICS];
            B4 fanout b4_every_group_gets_one_copy [GROUPS];
            B4 fanout b4_a_queue_gets_one_copy_however_many_bindings_match
                [QUEUES, TOPICS, BINDINGS, INSPECTION];
            B4 fanout b4_a_message_to_a_queue_goes_there_alone
                [QUEUES, TOPICS, BINDINGS, INSPECTION];
            B4 fanout b4_publishing_is_all_or_nothing [QUEUES, TOPICS, BINDINGS];
            B4 fanout b4_patterns_match_as_they_are_defined [TOPICS];
            B4 fanout b4_leading_wildcards_leave_reserved_topics_alone [TOPICS, ALONE];
            B4 fanout b4_a_subscription_that_drops_holds_nobody_up [TOPICS];
            B5 fanout b5_a_subscription_that_drops_says_what_it_missed [TOPICS];
            B5 queues b5_a_queue_tells_what_it_holds [QUEUES, BINDINGS, INSPECTION, BYTE_LIMITS];
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
            B5 queues b5_a_drain_waits_for_what_was_handed_out [QUEUES, DRAIN, CLOCK, ALONE];
            B5 queues b5_a_drain_gives_up_in_time_and_says_so [QUEUES, DRAIN, CLOCK, ALONE];
            B5 queues b5_expired_messages_are_not_handed_out [QUEUES, INSPECTION, DEADLINES, CLOCK];
            B6 broker b6_a_dropped_pending_receiver_leaves_nothing_behind
                [QUEUES, TOPICS, GROUPS, INBOXES, INSPECTION];
            B6 broker b6_a_dropped_declare_declared_or_did_not [QUEUES];
            B6 queues b6_declaring_again_keeps_what_is_not_named
                [QUEUES, BINDINGS, INSPECTION, BYTE_LIMITS];
            B6 queues b6_a_larger_capacity_lets_waiting_senders_go_on [QUEUES];
            B6 queues b6_deleting_lets_waiting_senders_go_on [QUEUES, BINDINGS];
            B6 queues b6_a_queue_that_is_not_there_is_not_found [QUEUES];
            B6 queues b6_a_name_can_be_used_again_after_deleting [QUEUES, INSPECTION];
            D1 drops d1_handles_may_be_dropped_in_any_order [QUEUES, TOPICS, GROUPS, INBOXES];
            D1 drops d1_handles_may_be_dropped_outside_any_runtime
                [QUEUES, TOPICS, GROUPS, INBOXES, INSPECTION];
            D1 drops d1_pending_futures_may_be_dropped_outside_any_runtime [QUEUES];
            D1 drops d1_deliveries_may_be_settled_outside_any_runtime [QUEUES, REDELIVERY];
            D1 drops d1_handles_outlive_the_broker_value [QUEUES, TOPICS];
            D1 drops d1_a_closed_handle_may_be_used_and_closed_again [QUEUES];
            D1 drops d1_futures_may_be_dropped_at_any_poll [QUEUES, INSPECTION];
            D2 messages d2_any_bytes_pass_as_a_payload [TOPICS];
            D2 messages d2_the_largest_payload_passes [QUEUES];
            D2 messages d2_one_byte_more_is_too_large [QUEUES];
            D2 messages d2_large_and_small_messages_keep_their_order [QUEUES];
            D2 messages d2_properties_arrive_as_they_were_sent [QUEUES, TOPICS];
            D2 messages d2_the_most_headers_and_the_longest_topic_pass [QUEUES, TOPICS];
            D2 messages d2_invalid_addresses_are_refused_before_they_travel [TOPICS];
            D2 messages d2_a_queue_may_have_any_valid_name [QUEUES];
            Q1 requests q1_every_reply_finds_its_requester [GROUPS, INBOXES];
            Q1 requests q1_a_failed_request_has_its_responders_words [GROUPS, INBOXES];
            Q1 requests q1_a_dropped_request_frees_its_slot [GROUPS, INBOXES];
            Q1 requests q1_a_request_ends_at_its_deadline [GROUPS, INBOXES, CLOCK];
            Q1 requests q1_a_deadline_without_a_clock_is_unsupported [];
            Q1 requests q1_responders_of_a_group_share_the_work [GROUPS, INBOXES];
            Q1 requests q1_inboxes_have_addresses_of_their_own [TOPICS, INBOXES, ALONE];
            Q1 requests q1_a_full_inbox_holds_nobody_up [INBOXES];
            Q2 requests q2_a_request_to_nobody_is_answered_at_once [INBOXES, NO_RESPONDERS];
            Q2 requests q2_a_message_to_nobody_is_answered_by_nobody [INBOXES, NO_RESPONDERS];
            Q2 requests q2_the_bus_says_no_responders [GROUPS, INBOXES, NO_RESPONDERS];
            Q2 requests q2_a_queue_without_consumers_is_nobody
                [QUEUES, INBOXES, NO_RESPONDERS, INSPECTION];
            Q2 requests q2_a_request_that_waits_is_answered_later
                [QUEUES, GROUPS, INBOXES, NO_RESPONDERS, INSPECTION];
            Q2 requests q2_a_dropped_request_tells_its_requester [GROUPS, INBOXES, NO_RESPONDERS];
            Q2 requests q2_a_lost_responder_tells_every_requester [GROUPS, INBOXES, NO_RESPONDERS];
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
