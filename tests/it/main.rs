//! All tests that need files, processes or whole models, in one binary, so that candle is linked once.

mod alloc;
mod attend;
mod cli;
mod clip;
mod devices;
mod eval;
mod golden;
mod hostile;
mod hub;
mod index;
mod memory;
mod methods;
mod mutate;
mod rows;
mod subjects;
mod training;
