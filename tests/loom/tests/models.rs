//! Runs the models.

use pollux_loom::models;

#[test]
fn two_inserts_of_one_key_agree() {
    models::two_inserts_of_one_key();
}

#[test]
fn two_inserts_agree_when_a_number_comes_back() {
    models::two_inserts_when_a_number_comes_back();
}

#[test]
fn two_keys_of_one_bucket_are_both_there() {
    models::two_keys_of_one_bucket();
}

#[test]
fn a_home_that_shrinks_hides_no_key() {
    models::a_home_that_shrinks_hides_no_key();
}

#[test]
fn remove_insert_and_lookup_fit_together() {
    models::remove_insert_and_lookup();
}

#[test]
fn nothing_is_reused_before_a_reader_has_passed() {
    models::nothing_is_reused_before_a_reader_has_passed();
}

#[test]
fn nothing_is_reused_in_the_hands_of_one_that_wakes() {
    models::nothing_is_reused_in_the_hands_of_one_that_wakes();
}
