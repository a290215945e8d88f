//! Programs that must not compile, with the compiler's words: misuse that types exclude.
//!
//! The words are those of the pinned toolchain. After a deliberate change: `TRYBUILD=overwrite`, and review.

#[test]
#[cfg_attr(miri, ignore = "runs the compiler")]
fn misuse_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/**/*.rs");
}
