// The code of a vCPU of the bench. It runs only as a copy in a guest, with the guest's addresses. Ring-0 code is short,
// because some hosts emulate it instruction by instruction.

.pushsection .text.crossmod_bench, "ax", @progbits
.balign 64

.macro rig_entry name
.global crossmod_bench_\name
crossmod_bench_\name:
.endm
rig_entry start

// Passes through the site (rdi) until [stop] is set. Records in TSC ticks the longest time between two passes since the
// epoch last changed, the durations of the last passes with a trap, and that of the last one without. Returns to the
// address on its stack.
rig_entry execute
    mov r8, rdi
    xor r9d, r9d                        // longest
    xor r10d, r10d                      // epoch
    xor r11d, r11d                      // passes
    xor r12d, r12d                      // traps
    xor r13d, r13d                      // passes with a trap
    xor ecx, ecx                        // time of the last pass
1:  call r8
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov rdx, rax
    sub rdx, rcx
    mov rcx, rax
    mov rax, [{traps}]
    cmp rax, r12
    jne 4f
    mov [{untrapped}], rdx
5:  mov rax, [{epoch}]
    cmp rax, r10
    jne 3f
    cmp rdx, r9
    jbe 2f
    mov r9, rdx
    mov [{longest}], r9
2:  inc r11
    mov [{passes}], r11
    cmp dword ptr [{stop}], 0
    je 1b
    ret
3:  mov r10, rax
    xor r9d, r9d
    mov [{longest}], r9
    mov [{epoch_seen}], r10
    jmp 2b
4:  mov r12, rax
    mov rax, r13
    and eax, {trap_log_mask}
    mov [{trap_log} + 8*rax], rdx
    inc r13
    mov [{trapped}], r13
    jmp 5b

// MOV to CR2 serialises (SDM vol. 3, 9.3; APM vol. 2, 7.6.4).
.macro rig_serialise
    push rax
    xor eax, eax
    mov cr2, rax
    pop rax
.endm

// #BP: the only INT3 is the site's. The instruction that it replaces has no effect: continue behind it.
rig_entry bp
    inc qword ptr [{traps}]
    add qword ptr [rsp], 4
    iretq

rig_entry nmi
    inc qword ptr [{nmis}]
    rig_serialise
    inc qword ptr [{ack}]
    iretq

// An NMI from another thread, which acknowledges nothing.
rig_entry stray
    inc qword ptr [{strays}]
    iretq

rig_entry sync
    inc qword ptr [{ipis}]
    rig_serialise
    mov dword ptr [{eoi}], 0
    inc qword ptr [{ack}]
    iretq

// Waits with interrupts off until the patcher releases this hold.
rig_entry hold
    push rax
    inc qword ptr [{ipis}]
    mov rax, [{target}]
    inc qword ptr [{arrived}]
1:  cmp [{release}], rax
    jne 1b
    rig_serialise
    mov dword ptr [{eoi}], 0
    inc qword ptr [{ack}]
    pop rax
    iretq

rig_entry end
.popsection
