//! The macros that make one test of every case, so that a test runner shows each law by name.

/// Makes a module of tests, one for every broker case, each with a broker of its own.
///
/// The first argument names the module, the second is an expression of a
/// [`BrokerSubject`](crate::BrokerSubject), evaluated once per test. A case that is not applicable
/// passes and says so on the standard error stream.
///
/// ```text
/// test my_broker::s1_pending_leaves_the_slot_full ... ok
/// test my_broker::s2_taken_messages_are_numbered_from_one ... ok
/// ```
///
/// The documentation of the crate has a whole test file.
#[macro_export]
macro_rules! broker_suite {
    ($name:ident, $subject:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports, reason = "the subject may be named by a path")]
            use super::*;
            $crate::__broker_cases!(__broker_tests $name, $subject);
        }
    };
}

/// Makes a module of tests, one for every transport case.
///
/// The first argument names the module, the second is an expression of a
/// [`TransportSubject`](crate::TransportSubject), evaluated once per test.
///
/// ```text
/// test my_transport::t1_bytes_arrive_in_order_both_ways ... ok
/// test my_transport::t2_a_stalled_peer_does_not_hold_up_accept ... ok
/// ```
#[macro_export]
macro_rules! transport_suite {
    ($name:ident, $subject:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports, reason = "the subject may be named by a path")]
            use super::*;
            $crate::__transport_cases!(__transport_tests $name, $subject);
        }
    };
}

/// Makes a module of tests, one for every runtime case.
///
/// The first argument names the module, the second is an expression of a
/// [`RuntimeSubject`](crate::RuntimeSubject), evaluated once per test.
///
/// ```text
/// test my_runtime::x1_a_task_may_be_spawned_from_any_thread ... ok
/// test my_runtime::x3_a_timer_is_never_early ... ok
/// ```
#[macro_export]
macro_rules! runtime_suite {
    ($name:ident, $subject:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports, reason = "the subject may be named by a path")]
            use super::*;
            $crate::__runtime_cases!(__runtime_tests $name, $subject);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __broker_tests {
    (
        [$suite:ident, $subject:expr]
        $($law:ident $module:ident $name:ident [$($need:ident),*];)+
    ) => {
        $(#[test]
        fn $name() {
            $crate::assert_broker_case(&$subject, stringify!($suite), stringify!($name));
        })+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __transport_tests {
    (
        [$suite:ident, $subject:expr]
        $($law:ident $module:ident $name:ident [$($need:ident),*];)+
    ) => {
        $(#[test]
        fn $name() {
            $crate::assert_transport_case(&$subject, stringify!($suite), stringify!($name));
        })+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __runtime_tests {
    (
        [$suite:ident, $subject:expr]
        $($law:ident $module:ident $name:ident [$($need:ident),*];)+
    ) => {
        $(#[test]
        fn $name() {
            $crate::assert_runtime_case(&$subject, stringify!($suite), stringify!($name));
        })+
    };
}
