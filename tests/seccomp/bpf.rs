//! What the kernel does with a filter: an interpreter of classic BPF (Documentation/networking/filter.rst),
//! of as much of it as filters of system calls use.

use seccompiler::sock_filter;

/// What a filter is shown of a call (linux/seccomp.h, `struct seccomp_data`).
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub number: u32,
    /// `AUDIT_ARCH_*`.
    pub architecture: u32,
    pub arguments: [u64; 6],
}

impl Data {
    /// The 32 bits at an offset; of both halves of 64 bits the low one comes first.
    fn word(&self, offset: u32) -> u32 {
        let at = usize::try_from(offset).expect("small");
        assert!(at % 4 == 0 && at < 64, "a load at {offset}");
        match at {
            0 => self.number,
            4 => self.architecture,
            // Where the call comes from: no policy asks.
            8 | 12 => 0,
            _ => {
                let argument = self.arguments[(at - 16) / 8];
                let half = if at % 8 == 0 { argument } else { argument >> 32 };
                u32::try_from(half & u64::from(u32::MAX)).expect("a half")
            }
        }
    }
}

/// What a program returns for a call (`SECCOMP_RET_*`).
pub fn run(program: &[sock_filter], data: &Data) -> u32 {
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let step: &sock_filter = program.get(at).expect("no way leads out of a program");
        at += 1;
        let mut jump = |condition: bool| {
            at += usize::from(if condition { step.jt } else { step.jf });
        };
        match step.code {
            // BPF_LD | BPF_W | BPF_ABS
            0x20 => accumulator = data.word(step.k),
            // BPF_ALU | BPF_AND | BPF_K
            0x54 => accumulator &= step.k,
            // BPF_JMP | BPF_JA
            0x05 => at += usize::try_from(step.k).expect("small"),
            // BPF_JMP | BPF_K with BPF_JEQ, BPF_JGT, BPF_JGE
            0x15 => jump(accumulator == step.k),
            0x25 => jump(accumulator > step.k),
            0x35 => jump(accumulator >= step.k),
            // BPF_RET | BPF_K
            0x06 => return step.k,
            code => panic!("these tests know no operation {code:#x}"),
        }
    }
}

#[test]
fn halves_of_an_argument_are_where_the_kernel_has_them() {
    let data = Data { number: 1, architecture: 2, arguments: [0, 0x7_0000_0009, 0, 0, 0, 5] };
    let words = [0, 4, 8, 24, 28, 56, 60].map(|offset| data.word(offset));
    assert_eq!(words, [1, 2, 0, 9, 7, 5, 0]);
}
