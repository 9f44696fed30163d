// Executor loops. Each passes through the patch site r15 times and then parks.
//
// Register contract: r12 = address of the site, r15 = passes left. The site is entered by CALL, with
// EAX = 0, and comes back by the RET of a landing pad. A pass begins at the label pass_call_X and ends
// at pass_done_X; the host finds the pairs by these names.

.section .text.guest, "ax"
.global _start
_start:                                 // never executed: vCPUs are put straight into 64-bit mode
    hlt

.global exec_loop, pass_call_loop, pass_done_loop
exec_loop:
    xor eax, eax
pass_call_loop:
    call r12
pass_done_loop:
    dec r15
    jnz exec_loop

// An executor whose RIP stands here has finished: it only takes interrupts.
.global exec_park
exec_park:
    jmp exec_park

// Takes the lock for each pass, interrupts on throughout.
.global exec_lock, pass_call_lock, pass_done_lock
exec_lock:
    cmp dword ptr [{lock}], 0
    jne exec_lock
    mov eax, 1
    xchg dword ptr [{lock}], eax
    test eax, eax
    jnz exec_lock
    xor eax, eax
pass_call_lock:
    call r12
pass_done_lock:
    mov dword ptr [{lock}], 0
    dec r15
    jnz exec_lock
    jmp exec_park

// The same with interrupts off from before the lock is wanted until after it is dropped (ring 0).
.global exec_lock_irqoff, pass_call_lock_irqoff, pass_done_lock_irqoff
exec_lock_irqoff:
    cli
1:  cmp dword ptr [{lock}], 0
    jne 1b
    mov eax, 1
    xchg dword ptr [{lock}], eax
    test eax, eax
    jnz 1b
    xor eax, eax
pass_call_lock_irqoff:
    call r12
pass_done_lock_irqoff:
    mov dword ptr [{lock}], 0
    push 0x202                          // not STI: its shadow cannot be stepped into on every host
    popfq
    dec r15
    jnz exec_lock_irqoff
    jmp exec_park
