//! Bugs put in on purpose, which the simulator must find: how one is asked for in the code, and how a crate lists its own. The crates that have
//! some include this file; it is no crate, because a released binary must not link what serves tests only. docs/design/mutations.md tells more.

/// A bug was put in on purpose (see the crate's `mutation.rs`): whether it was; what it does; or its value and the right one. Nothing without
/// the feature `mutations`.
#[cfg(feature = "mutations")]
macro_rules! mutated {
    ($name:ident) => {
        $crate::mutation::is_chosen($crate::mutation::Own::$name)
    };
    ($name:ident, $does:expr) => {
        if mutated!($name) {
            $does
        }
    };
    ($name:ident, $wrong:expr, $right:expr) => {
        if mutated!($name) { $wrong } else { $right }
    };
}
#[cfg(not(feature = "mutations"))]
macro_rules! mutated {
    ($name:ident) => {
        false
    };
    ($name:ident, $does:expr) => {};
    ($name:ident, $wrong:expr, $right:expr) => {
        $right
    };
}

/// Lists the crate's bugs as the enum named first, and gives each thread the choice of one of them.
#[cfg(feature = "mutations")]
macro_rules! mutations {
    ($list:ident: $(#[doc = $text:literal] $name:ident,)+) => {
        /// A bug, and what it does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $list {
            $(#[doc = $text] $name,)+
        }

        /// What `mutated!` asks for.
        pub(crate) use $list as Own;

        impl $list {
            /// Every one of them, with what it does in words.
            pub const ALL: &[($list, &str)] = &[$(($list::$name, $text)),+];
        }

        thread_local! {
            static CHOSEN: std::cell::Cell<Option<$list>> = const { std::cell::Cell::new(None) };
        }

        /// Runs this thread with the bug from now on, or with none.
        pub fn choose(mutation: Option<$list>) {
            CHOSEN.set(mutation);
        }

        pub(crate) fn is_chosen(mutation: $list) -> bool {
            CHOSEN.get() == Some(mutation)
        }
    };
}
