//! Rules of the catalogue and its resolver. No model is loaded: the files are a few bytes long, and the
//! registries are a folder of wheels for the real pip and a loopback server that speaks the hub's file
//! protocol.

mod cache;
mod entries;
mod parts;
mod sources;
mod support;
