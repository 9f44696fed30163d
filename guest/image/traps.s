// Trap and interrupt handlers. Each begins with an OUT to the port of its own vector: the delivery of an
// event thereby ends in an exit at the same place on every backend.

.macro doorbell name, port
.global \name
\name:
    out \port, al
.endm

// MOV to CR2 is a serialising instruction (SDM vol. 3, 9.3; APM vol. 2, 7.6.4) that needs one register,
// exits on no backend, and leaves the machine as it was when CR2 is always 0.
.macro serialise
    xor eax, eax
    mov cr2, rax
.endm

.macro acknowledge
    mov dword ptr [{ack}], 1
.endm

// ---- broadcasts -----------------------------------------------------------------------------------
doorbell ipi_sync, {v_sync}
    push rax
    serialise
    acknowledge
    pop rax
    iretq

doorbell ipi_ack_first, {v_ack_first}
    push rax
    acknowledge
    serialise
    pop rax
    iretq

doorbell ipi_ack_only, {v_ack_only}
    acknowledge
    iretq

doorbell ipi_hold, {v_hold}
    push rax
    serialise
    lock inc dword ptr [{arrived}]
1:  cmp dword ptr [{release}], 0
    je 1b
    acknowledge
    pop rax
    iretq

doorbell ipi_stop, {v_stop}
    push rax
    lock inc dword ptr [{arrived}]
1:  cmp dword ptr [{release}], 0
    je 1b
    serialise
    acknowledge
    pop rax
    iretq

doorbell ipi_early, {v_early}
    push rax
    serialise
    lock inc dword ptr [{arrived}]
    acknowledge
    pop rax
    iretq

// ---- interrupts that may run the site -------------------------------------------------------------
doorbell irq_plain, {v_irq}
    iretq

.global pass_call_irq, pass_done_irq
doorbell irq_site, {v_irq}
    push rax
    xor eax, eax
pass_call_irq:
    call r12
pass_done_irq:
    pop rax
    iretq

.global nmi_iret_plain, nmi_iret_site
doorbell nmi_plain, {v_nmi}
nmi_iret_plain:
    iretq

.global pass_call_nmi, pass_done_nmi
doorbell nmi_site, {v_nmi}
    push rax
    xor eax, eax
pass_call_nmi:
    call r12
pass_done_nmi:
    pop rax
nmi_iret_site:
    iretq

// ---- machine checks --------------------------------------------------------------------------------
// Neither interrupts-off nor the NMI mask holds one back. What ends the handling is a write to MCG_STATUS
// (SDM vol. 3, 15.3.1.2), which serialises; before it a second machine check would shut the CPU down.
.macro machine_check_handled
    xor eax, eax
    xor edx, edx
    mov ecx, {mcg_status}
    wrmsr
    pop rdx
    pop rcx
    pop rax
    iretq
.endm

doorbell mc_plain, {v_mc}
    push rax
    push rcx
    push rdx
    machine_check_handled

.global pass_call_mc, pass_done_mc
doorbell mc_site, {v_mc}
    push rax
    push rcx
    push rdx
    xor eax, eax
pass_call_mc:
    call r12
pass_done_mc:
    machine_check_handled

// ---- #BP -------------------------------------------------------------------------------------------
// Reads the protocol descriptor field by field while the patcher may be changing it.
// Stack after the pushes: rcx, rax, rip, cs, rflags, rsp, ss.
.macro bp_claim
    push rax
    push rcx
    cmp dword ptr [{armed}], 0
    je bp_unclaimed
    mov rax, [rsp + 16]
    dec rax
    cmp rax, [{desc_site}]
    jne bp_unclaimed
.endm

// A handler that keeps statistics: the parity of the traps it claimed.
doorbell bp_counting, {v_bp}
    bp_claim
    xor dword ptr [{hits}], 1
    jmp bp_act

// A handler that itself contains the site (it, or something it calls, is traced).
.global pass_call_bp, pass_done_bp
doorbell bp_traced, {v_bp}
    bp_claim
    xor eax, eax
pass_call_bp:
    call r12
pass_done_bp:
    jmp bp_act

doorbell bp_plain, {v_bp}
    bp_claim
.global bp_act
bp_act:
    cmp dword ptr [{action}], {call}
    je bp_call
    mov rax, [{resume}]
    mov [rsp + 16], rax
    pop rcx
    pop rax
    iretq

// An emulated call pushes onto the interrupted stack, which at ring 0 is where the trap frame itself stands:
// the frame is first copied out of the way. Its RSP is lowered before the copy, so that at every moment the
// frame at the top of a stack tells what is in use below it.
bp_call:
    mov rax, [rsp + 40]                 // interrupted RSP
    lea rax, [rax - 8]
    mov [rsp + 40], rax
    pop rcx
    pop rax
    .rept 5
    push qword ptr [rsp + 32]
    .endr
    push rax
    push rcx
    mov rax, [rsp + 40]
    mov rcx, [{retaddr}]
    mov [rax], rcx
    mov rcx, [{resume}]
    mov [rsp + 16], rcx
    pop rcx
    pop rax
    iretq

// Not this handler's: whoever owns the trap goes on behind it.
.global bp_unclaimed
bp_unclaimed:
    pop rcx
    pop rax
.global bp_foreign
bp_foreign:
    iretq

// ---- stepping and faults: each ends the path or is consumed by the host ---------------------------------
doorbell de_stub, {v_de}
    hlt
doorbell db_stub, {v_db}
    hlt
doorbell ud_stub, {v_ud}
    hlt
doorbell df_stub, {v_df}
    hlt
doorbell gp_stub, {v_gp}
    hlt
doorbell pf_stub, {v_pf}
    hlt

.global guest_end
guest_end:
