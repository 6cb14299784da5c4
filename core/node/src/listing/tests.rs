//! What the table says and what a filter may ask for.

#[test]
fn a_filter_knows_every_state_of_the_table() {
    assert_eq!(holdfast_engine::CONNECTION_STATES, holdfast_config::CONNECTION_STATES);
}
