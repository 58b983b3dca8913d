//! Faults of providers and of the calendar, end to end on a clock that the test moves: when a message is tried again,
//! what a wrong answer is taken for, and that no local minute of the night is ever sent in.

mod answers;
mod daylight;
mod desk;
mod schedule;
