// The code of a vCPU under stress. It runs only as a copy in a guest, with the guest's addresses. The loop keeps nothing
// in registers, because a torn site may change any of them.

.pushsection .text.crossmod_stress, "ax", @progbits
.balign 64
.global crossmod_stress_start
crossmod_stress_start:

// Passes through the site and logs three words for each pass: the version that was complete before, RAX, the version that
// was begun afterwards. Ends in a doorbell after the last pass.
.global crossmod_stress_execute
crossmod_stress_execute:
1:  mov rcx, [{log}]
    mov rax, [{done}]
    mov [rcx], rax
    xor ecx, ecx                        // torn bytes may store through any register
    xor eax, eax
    call qword ptr [{site}]
    mov rsp, [{top}]
    mov rcx, [{log}]
    mov [rcx + 8], rax
    mov rax, [{begun}]
    mov [rcx + 16], rax
    add rcx, 24
    mov [{log}], rcx
    dec qword ptr [{left}]
    jnz 1b
    out {stop}, al
    hlt

// One pass on behalf of an interrupt handler.
.global crossmod_stress_once
crossmod_stress_once:
    xor eax, eax
    call qword ptr [{site}]
    out {stop}, al
    hlt

.global crossmod_stress_nmi_plain
crossmod_stress_nmi_plain:
    inc qword ptr [{nmis}]
    iretq

// The host runs a pass at ring 3 before it resumes the handler.
.global crossmod_stress_nmi_site
crossmod_stress_nmi_site:
    inc qword ptr [{nmis}]
    out {nmi}, al
.global crossmod_stress_nmi_back
crossmod_stress_nmi_back:
    iretq

.global crossmod_stress_irq_plain
crossmod_stress_irq_plain:
    inc qword ptr [{irqs}]
    mov dword ptr [{eoi}], 0
    iretq

.global crossmod_stress_irq_site
crossmod_stress_irq_site:
    inc qword ptr [{irqs}]
    out {irq}, al
.global crossmod_stress_irq_back
crossmod_stress_irq_back:
    mov dword ptr [{eoi}], 0
    iretq

// The handlers of broadcasts, which have the names of the scenario language. MOV to CR2 serialises (SDM vol. 3, 9.3; APM
// vol. 2, 7.6.4).
.macro course_serialise
    push rax
    xor eax, eax
    mov cr2, rax
    pop rax
.endm
.macro course_end
    mov dword ptr [{eoi}], 0
    inc qword ptr [{ack}]
    iretq
.endm
.macro course_wait
    push rax
    mov rax, [{target}]
    inc qword ptr [{arrived}]
1:  cmp [{release}], rax
    jb 1b
    pop rax
.endm

.global crossmod_stress_sync
crossmod_stress_sync:
    course_serialise
    course_end

.global crossmod_stress_ack_first
crossmod_stress_ack_first:
    inc qword ptr [{ack}]
    course_serialise
    mov dword ptr [{eoi}], 0
    iretq

.global crossmod_stress_ack_only
crossmod_stress_ack_only:
    course_end

.global crossmod_stress_hold
crossmod_stress_hold:
    course_serialise
    course_wait
    course_end

.global crossmod_stress_stop
crossmod_stress_stop:
    course_wait
    course_serialise
    course_end

.global crossmod_stress_early
crossmod_stress_early:
    course_serialise
    inc qword ptr [{arrived}]
    course_end

.global crossmod_stress_end
crossmod_stress_end:
.popsection
