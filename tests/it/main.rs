//! All tests that need files, processes or whole models, in one binary, so that candle is linked once.

mod alloc;
mod attend;
mod changed;
mod cli;
mod clip;
mod configs;
mod devices;
mod effect;
mod eval;
mod finite;
mod foreign;
mod golden;
mod hostile;
mod hub;
mod index;
mod kinds;
mod memory;
mod methods;
mod mutate;
mod no_middle;
mod no_model;
mod photos;
mod published;
mod readme;
mod rows;
mod training;
