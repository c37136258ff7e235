//! Attacks from the core, which reads what strangers send.

use crate::attack::prove;
use crate::{files, kernel, network, processes};
use pesto::sandbox::seccomp::Policy;

#[test]
fn core_reaches_no_file_whichever_of_its_layers_is_left() {
    prove(Policy::Core, &[files::FROM_THE_CORE]);
}

#[test]
fn core_reaches_no_network_whichever_of_its_layers_is_left() {
    prove(Policy::Core, &[network::FROM_THE_CORE]);
}

#[test]
fn core_reaches_no_process_whichever_of_its_layers_is_left() {
    prove(Policy::Core, &[processes::FROM_THE_CORE]);
}

#[test]
fn core_gets_neither_memory_nor_privileges_nor_more_of_the_kernel() {
    prove(Policy::Core, &[kernel::FROM_THE_CORE]);
}
