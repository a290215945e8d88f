//! What `#[derive(TaskError)]` writes does what the trait promises.

use std::fmt;
use std::io;

use nursery::{CancelScope, Cancelled, ErrorGroup, TaskError, TooSlow, checkpoint};

/// A cancellation as a task meets it; there is no other way to get one.
fn a_cancellation() -> Cancelled {
    let mut met = None;
    let outcome: Result<Option<()>, Cancelled> = nursery::run(async {
        let scope = CancelScope::new();
        scope.cancel();
        let body = async {
            met = checkpoint().await.err();
            Ok(())
        };
        scope.enter(body).await
    });
    outcome.expect("the scope absorbs its own cancellation");
    met.expect("a checkpoint in a cancelled scope")
}

#[derive(Debug, TaskError)]
enum Plain {
    Cancelled(Cancelled),
    Several(ErrorGroup<Self>),
    TooSlow(TooSlow),
    #[task_error(from, nested)]
    Io(io::Error),
    Step {
        #[task_error(nested)]
        source: io::Error,
        name: &'static str,
    },
}

#[test]
fn the_cancellation_is_found_in_its_variant_and_in_nested_ones() {
    let cancelled = a_cancellation();
    let io_error = || io::Error::from(cancelled.clone());
    assert!(Plain::from(cancelled.clone()).as_cancelled().is_some());
    assert!(Plain::from(io_error()).as_cancelled().is_some());
    let step = Plain::Step { source: io_error(), name: "read" };
    assert!(step.as_cancelled().is_some());
    assert!(matches!(step, Plain::Step { name: "read", .. }));

    assert!(Plain::from(io::Error::other("cable cut")).as_cancelled().is_none());
    assert!(Plain::from(ErrorGroup::new(vec![Plain::from(cancelled)])).as_cancelled().is_none());
}

#[test]
fn the_group_is_found_and_can_be_changed() {
    let mut error = Plain::from(ErrorGroup::new(vec![Plain::from(a_cancellation())]));
    assert_eq!(error.as_group().map(ErrorGroup::len), Some(1));
    assert!(error.as_group_mut().is_some());
    assert!(Plain::from(a_cancellation()).as_group_mut().is_none());
}

#[test]
fn too_slow_converts_without_a_mark() {
    fn asks<E: TaskError + From<TooSlow>>() {}
    asks::<Plain>();
    let is_slow = |error: &Plain| matches!(error, Plain::TooSlow(slow) if slow.limit().is_some());
    assert!(!is_slow(&Plain::from(a_cancellation())));
    asks::<WithThiserror>();
    asks::<Opaque>();
    assert!(!matches!(Plain::from(a_cancellation()), Plain::TooSlow(_)));
}

#[derive(Debug, thiserror::Error, TaskError)]
enum WithThiserror {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("several")]
    Several(Box<ErrorGroup<Self>>),
    #[error("slow")]
    Late(#[from] TooSlow),
    #[error("on the wire")]
    #[task_error(nested)]
    Io(#[from] io::Error),
}

#[test]
fn thiserror_and_the_derive_share_the_work() {
    let cancelled = a_cancellation();
    let nested = WithThiserror::from(io::Error::from(cancelled.clone()));
    assert!(nested.as_cancelled().is_some());
    let mut group = WithThiserror::from(ErrorGroup::new(vec![nested]));
    assert_eq!(group.as_group().map(ErrorGroup::len), Some(1));
    assert!(group.as_group_mut().is_some());
    assert!(WithThiserror::from(cancelled).as_group().is_none());
}

#[test]
fn only_what_is_an_error_is_given_as_one() {
    let error = WithThiserror::from(io::Error::other("cable cut"));
    assert_eq!(error.as_error().map(ToString::to_string).as_deref(), Some("on the wire"));
    assert!(Plain::from(io::Error::other("cable cut")).as_error().is_none());
}

#[derive(Debug, TaskError)]
#[task_error(crate = nursery)]
enum Generic<'a, T: fmt::Debug, const N: usize>
where
    T: Clone,
{
    Cancelled {
        because: Cancelled,
    },
    Several(ErrorGroup<Generic<'a, T, N>>),
    #[task_error(nested)]
    Inner(T),
    Text(&'a [u8; N]),
}

#[test]
fn a_generic_enum_asks_its_parameter() {
    type Error<'a> = Generic<'a, Cancelled, 2>;
    let cancelled = a_cancellation();
    assert!(Error::Inner(cancelled.clone()).as_cancelled().is_some());
    assert!(Error::from(cancelled).as_cancelled().is_some());
    let text = Error::Text(b"ok");
    assert!(text.as_cancelled().is_none());
    assert!(matches!(text, Generic::Text(b"ok")));
}

#[derive(Debug, TaskError)]
struct Opaque(anyhow::Error);

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[test]
fn a_struct_around_anyhow_holds_everything() {
    let cancelled = Opaque::from(a_cancellation());
    assert!(cancelled.as_cancelled().is_some());
    let mut group = Opaque::from(ErrorGroup::new(vec![cancelled]));
    assert!(group.as_cancelled().is_none());
    assert_eq!(group.as_group().map(ErrorGroup::len), Some(1));
    assert!(group.as_group_mut().is_some());
}

/// Types and field names that come through another macro keep their own hygiene.
macro_rules! define {
    ($name:ident, $cancelled:ty, $field:ident, $nested:ty) => {
        #[derive(TaskError)]
        enum $name {
            Cancelled {
                $field: $cancelled,
            },
            Group(Box<ErrorGroup<$name>>),
            #[task_error(from, nested)]
            Nested(Box<$nested>),
        }
    };
}

define!(Defined, nursery::Cancelled, value, std::io::Error);

#[test]
fn a_type_made_by_a_macro_derives() {
    let cancelled = a_cancellation();
    assert!(Defined::from(io::Error::from(cancelled.clone())).as_cancelled().is_some());
    assert!(Defined::from(cancelled).as_group().is_none());
}
