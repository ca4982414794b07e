//! The contract of the store port: one list of tests that runs on the store in memory and on the Redis store.

/// As in the tests end to end: what is missing fails a test, or leaves it out with its name told.
#[path = "e2e/needs.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the file is shared, and this binary needs one of its functions"
)]
mod needs;
mod support;

mod store_contract {
    pub(crate) mod commits;
    pub(crate) mod duplicates;
    mod durability;
    pub(crate) mod epochs;
    pub(crate) mod harness;
    pub(crate) mod history;
    pub(crate) mod holes;
    pub(crate) mod holes_pending;
    mod holes_redis;
    pub(crate) mod hops;
    pub(crate) mod house;
    mod in_memory;
    pub(crate) mod keyed;
    pub(crate) mod model;
    pub(crate) mod on_redis;
    pub(crate) mod owned;
    pub(crate) mod properties;
    pub(crate) mod recovery;
    pub(crate) mod resets;
    pub(crate) mod spools;
}

/// Runs every test of the list on this backend, each on data of its own.
macro_rules! on {
    ($store:ident, $backend:path, $($room:ident::$test:ident),+ $(,)?) => {
        mod $store {
            $(
                #[tokio::test]
                async fn $test() {
                    let backend = <$backend>::start().await;
                    super::store_contract::$room::$test(&backend).await;
                }
            )+
        }
    };
}

/// The list.
macro_rules! contract {
    ($store:ident, $backend:path) => {
        on! { $store, $backend,
            holes::hole_01_a_commit_that_meets_a_spoilt_counter_changes_nothing,
            holes::hole_03_a_stale_workers_commit_after_a_claim_changes_nothing,
            holes::hole_03_the_first_of_two_commits_wins_whoever_holds_the_entry,
            holes::hole_03_only_who_holds_an_entry_may_note_a_failed_try,
            holes::hole_04_not_pending_without_a_marker_is_an_alarm,
            holes::hole_04_an_id_that_was_never_delivered_is_not_pending,
            holes::hole_04_without_a_group_every_call_says_so,
            holes::hole_08_what_is_read_is_pending_until_it_is_committed,
            holes::hole_11_a_commit_run_again_after_a_lost_reply_changes_nothing,
            holes::hole_15_a_hop_whose_reply_was_lost_is_made_once,
            holes::hole_15_effects_and_children_of_a_refused_entry_do_not_happen,
            holes::hole_16_a_batch_of_five_hundred_is_one_step,
            holes_pending::hole_05_a_group_set_back_does_not_count_twice,
            holes_pending::hole_05_settled_entries_above_an_old_pending_one_are_known_after_a_reset,
            holes_pending::hole_05_a_destroyed_group_begins_again_where_all_before_is_settled,
            holes_pending::hole_06_an_entry_trimmed_while_pending_is_lost_once,
            holes_pending::hole_06_sweep_and_claim_book_what_is_gone_as_lost,
            holes_pending::hole_06_the_janitor_keeps_what_anyone_still_needs,
            holes_pending::hole_07_only_a_consumer_that_holds_nothing_is_retired,
            holes_pending::hole_07_a_consumer_deleted_by_others_leaves_its_entries_unaccounted,
            holes_pending::hole_09_a_sweep_takes_idle_entries_of_others_only,
            holes_pending::hole_09_a_heartbeat_makes_own_entries_young_and_takes_none_back,
            holes_pending::hole_10_deliveries_and_failed_tries_are_two_counters,
            holes_pending::hole_19_deleted_entries_are_booked_before_a_sweep_forgets_them,
            commits::new_entries_are_delivered_once_and_in_order,
            commits::entries_come_byte_for_byte,
            commits::reading_returns_when_an_entry_comes,
            commits::a_read_without_new_entries_is_empty,
            commits::applied_entries_are_counted_and_no_longer_pending,
            commits::counters_and_sessions_add_up_over_commits,
            commits::an_empty_store_has_no_totals,
            commits::entries_ended_by_an_operator_are_acknowledged_without_effects,
            commits::a_dead_letter_keeps_everything,
            commits::a_failed_try_stays_pending_with_its_back_off,
            commits::settling_forgets_the_failed_tries,
            duplicates::the_second_entry_with_a_known_id_is_a_duplicate,
            duplicates::of_two_in_one_batch_the_first_wins,
            duplicates::every_settled_outcome_makes_the_id_known,
            duplicates::a_failed_try_does_not_make_the_id_known,
            duplicates::an_entry_from_our_door_is_not_its_own_duplicate,
            duplicates::a_door_answers_a_known_id_with_its_first_entry,
            duplicates::an_unchecked_door_adds_everything,
            duplicates::an_event_without_an_id_is_never_a_duplicate,
            duplicates::old_ids_are_forgotten_by_number,
            duplicates::without_a_window_nothing_is_a_duplicate,
            recovery::a_backlog_is_ones_own_and_comes_in_pages,
            recovery::an_entry_trimmed_between_read_and_commit_is_applied,
            recovery::a_sweep_passes_over_entries_in_back_off,
            recovery::a_sweep_goes_on_page_by_page,
            recovery::a_claim_takes_exactly_these_whatever_their_back_off,
            recovery::a_claim_of_what_is_not_pending_answers_nothing,
            recovery::a_heartbeat_does_not_hide_a_payload_that_is_gone,
            recovery::entries_taken_by_a_foreign_reader_are_swept,
            resets::the_first_start_creates_groups_and_the_second_nothing,
            resets::entries_added_before_the_first_start_are_read,
            resets::of_a_group_that_was_there_before_the_open_entries_count,
            resets::a_stream_of_another_pipeline_is_refused,
            resets::a_commit_from_before_a_reset_does_not_hide_what_comes_again,
            resets::entries_unfinished_before_a_reset_are_applied_after_it,
            resets::prepare_moves_a_group_on_that_was_set_back,
            resets::a_group_destroyed_when_all_was_settled_delivers_nothing_again,
            resets::a_reader_that_waits_is_told_that_its_stream_is_gone,
            resets::a_deleted_source_is_noticed_and_the_ledger_goes_on,
            resets::a_deleted_stream_between_stages_is_noticed,
            resets::a_stream_between_stages_deleted_before_anything_was_worked_is_noticed,
            resets::after_a_flush_everything_begins_anew,
            resets::after_a_roll_back_effects_and_acknowledgements_agree,
            hops::children_reach_the_next_stage_with_their_origin,
            hops::only_the_first_hop_notes_the_origin,
            hops::an_entry_is_applied_at_the_last_stage,
            hops::an_output_without_children_is_done_there,
            hops::several_children_and_readers_are_spawned,
            hops::two_stages_on_the_source_both_see_every_entry,
            hops::an_entry_redriven_between_stages_does_not_pass_the_first_again,
            hops::a_redriven_entry_is_spawned_for_the_other_readers,
            hops::a_redriven_entry_names_its_stage_where_others_read_the_stream,
            hops::what_is_redriven_for_one_stage_is_no_duplicate_in_another,
            owned::an_owner_works_by_position_and_every_tool_sees_it,
            owned::a_lease_is_held_until_it_is_given_up_or_runs_out,
            owned::who_asks_for_a_lease_is_heard_and_it_is_kept_for_them,
            owned::a_lease_tells_of_owners_that_ended_without_a_word,
            owned::the_depth_tells_who_owns_a_stage_and_how_far_it_is,
            owned::hole_03_a_shared_worker_beside_an_owner_is_refused,
            owned::hole_06_the_janitor_keeps_what_the_owner_has_not_passed,
            owned::a_zombies_commit_is_refused_and_changes_nothing,
            owned::a_commit_whose_reply_was_lost_is_known_as_done,
            owned::what_must_wait_is_parked_and_worked_off,
            owned::what_was_trimmed_is_lost_once,
            owned::what_was_in_hand_when_it_was_trimmed_is_applied_and_not_lost,
            owned::entries_deleted_unread_are_lost_once_they_are_passed,
            owned::a_destroyed_group_is_made_again_with_what_was_parked,
            owned::a_group_set_back_or_ahead_is_put_right,
            owned::foreign_hands_in_the_group_change_nothing,
            owned::a_stream_that_began_anew_is_owned_from_its_beginning,
            owned::a_person_settles_and_releases_what_is_parked,
            owned::a_stage_changes_its_delivery_without_loss,
            owned::what_the_server_forgot_is_not_applied_from_an_owners_hand,
            owned::after_a_roll_back_the_owner_starts_from_the_stored_position,
            keyed::state_moves_with_the_position_and_the_next_owner_reads_it,
            keyed::hole_03_a_zombie_with_an_old_version_changes_no_state,
            keyed::hole_03_state_that_somebody_changed_refuses_the_commit,
            keyed::state_that_is_not_ours_is_broken_and_nothing_is_done,
            keyed::large_state_is_loaded_in_parts,
            keyed::hole_11_state_changes_once_when_the_reply_was_lost,
            keyed::a_duplicate_is_named_before_state_counts_it,
            keyed::a_parked_entry_taken_by_a_person_changes_no_state,
            keyed::a_timer_fires_once_with_what_it_changes,
            keyed::a_timer_that_was_cleared_or_moved_never_fires,
            keyed::a_timer_is_refused_when_its_state_was_changed,
            keyed::state_outlives_resets_of_the_group_and_of_the_stream,
            keyed::after_a_roll_back_state_and_position_agree,
            keyed::state_made_otherwise_is_refused_and_what_is_left_is_told,
            house::a_discarded_entry_is_acknowledged_unapplied,
            house::an_entry_killed_by_hand_becomes_a_dead_letter,
            house::an_operator_finds_a_trimmed_entry_lost,
            house::a_released_entry_is_swept_at_once,
            house::a_redriven_entry_is_applied_and_accepted_only_once,
            house::after_a_redrive_the_same_event_from_outside_is_a_duplicate,
            house::a_trimmed_entry_cannot_be_redriven,
            house::purging_deletes_letters_and_leaves_the_ledger,
            house::dead_letters_come_newest_first_in_pages,
            house::entries_trimmed_unread_are_booked_as_lost_once,
            house::entries_trimmed_unread_are_lost_even_if_the_rest_was_read_first,
            house::entries_deleted_unread_make_the_lag_an_estimate,
            house::young_dead_letters_are_kept,
            house::pending_entries_are_listed_by_holder_age_and_page,
            house::the_depth_tells_where_a_stage_stands,
            house::peeking_consumes_nothing,
            house::refused_events_are_outside_the_sum,
            house::daemons_know_of_each_other,
            epochs::hole_13_a_stream_that_only_grows_keeps_its_epoch,
            epochs::hole_13_a_deleted_stream_begins_a_new_epoch,
            epochs::hole_13_a_flushed_server_begins_a_new_epoch,
            epochs::hole_13_a_server_that_went_back_begins_a_new_epoch_whatever_came_since,
            epochs::hole_13_an_epoch_that_was_rolled_back_never_comes_again,
            epochs::hole_13_daemons_agree_on_the_epoch,
            spools::a_spools_events_are_added_once_with_the_window_off,
            spools::a_batch_of_a_spool_whose_answer_was_lost_is_known,
            spools::a_spools_events_are_checked_by_their_ids,
            spools::spools_do_not_know_each_other_and_go_back_with_the_store,
        }
    };
}

contract!(memory, crate::store_contract::harness::MemoryBackend);

contract!(redis, crate::store_contract::on_redis::RedisBackend);
