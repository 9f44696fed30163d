// The code of a vCPU under stress. It runs only as a copy in a guest, with the guest's addresses. The loop keeps nothing
// in registers, because a torn site may change any of them.

.pushsection .text.crossmod_stress, "ax", @progbits
.balign 64

.macro course_entry name
.global crossmod_stress_\name
crossmod_stress_\name:
.endm
course_entry start

// Passes through the site and logs three words for each pass: the version that was complete before, RAX, the version that
// was begun afterwards. Ends in a doorbell after the last pass.
course_entry execute
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
course_entry once
    xor eax, eax
    call qword ptr [{site}]
    out {stop}, al
    hlt

course_entry nmi_plain
    inc qword ptr [{nmis}]
    iretq

// The host runs a pass at ring 3 before it resumes the handler.
course_entry nmi_site
    inc qword ptr [{nmis}]
    out {nmi}, al
course_entry nmi_back
    iretq

course_entry irq_plain
    inc qword ptr [{irqs}]
    mov dword ptr [{eoi}], 0
    iretq

course_entry irq_site
    inc qword ptr [{irqs}]
    out {irq}, al
course_entry irq_back
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

course_entry sync
    course_serialise
    course_end

course_entry ack_first
    inc qword ptr [{ack}]
    course_serialise
    mov dword ptr [{eoi}], 0
    iretq

course_entry ack_only
    course_end

course_entry hold
    course_serialise
    course_wait
    course_end

course_entry stop
    course_wait
    course_serialise
    course_end

course_entry early
    course_serialise
    inc qword ptr [{arrived}]
    course_end

course_entry end
.popsection
