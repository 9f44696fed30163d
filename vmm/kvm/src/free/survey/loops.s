// Executor and writer loops of surveys. They are position independent, use the System V calling convention, and end with
// RET: the same bytes run on a thread without KVM and, copied into guest memory, on a vCPU.
//
// Counters: [begun] the generation that the writer is about to store, [done] the last one it has stored.
// Other CPUs see stores in program order (SDM vol. 3, 9.2.2; APM vol. 2, 7.2). An executor that reads D in [done] could
// therefore read the site's bytes of D or later, and does not execute later bytes than those of a subsequent read of
// [begun].

.pushsection .text.crossmod_survey, "ax", @progbits
.macro survey_entry name
.balign 64
.global crossmod_survey_\name
crossmod_survey_\name:
.endm
survey_entry start

// The end of each pass.
.macro record
    mov r11, [rsi + {begun}]
    mov [rcx], r10
    mov [rcx + 8], rax
    mov [rcx + 16], r11
    add rcx, 24
    dec rdx
    jnz 1b
    ret
.endm

// rdi = site, rsi = counters, rdx = passes, rcx = log, 24 bytes per pass: done before, result, begun after.
survey_entry execute
    mov r8, rdi
1:  mov r10, [rsi + {done}]
    call r8
    record

// The same with a serialising instruction between the read of [done] and the site. IRETQ to the same ring serialises, and
// ring 3 may execute it on every CPU (SDM vol. 3, 9.3; APM vol. 2, 7.6.4).
survey_entry execute_serialised
    mov r8, rdi
1:  mov r10, [rsi + {done}]
    mov r9, rsp
    mov eax, ss
    push rax
    push r9
    pushfq
    mov eax, cs
    push rax
    lea rax, [rip + 2f]
    push rax
    iretq
2:  call r8
    record

// The same with the site's lines flushed out of every cache before each pass. LFENCE delays the pass until that is done.
survey_entry execute_cold
    mov r8, rdi
1:  mov r10, [rsi + {done}]
    clflush [r8]
    clflush [r8 + 16]
    mfence
    lfence
    call r8
    record

// Repeats the first of these loops r8 times, with the same log.
survey_entry repeat
    push rbx
    push r12
    push r13
    mov rbx, r8
    mov r12, rcx
    mov r13, rdx
1:  mov rcx, r12
    mov rdx, r13
    call crossmod_survey_execute
    dec rbx
    jnz 1b
    pop r13
    pop r12
    pop rbx
    ret

// Writers. rdi = first byte to store to, rsi = counters, rdx = stores, rcx = generation before, r8 = state of the
// generator that spaces the stores, r9 = mask of the spacing. RAX returns the generator's state. The low byte
// of the generation fills every byte of the immediate.
.macro writer name
survey_entry write_\name
1:  inc rcx
    movzx eax, cl
    mov r10, 0x0101010101010101
    imul rax, r10
    mov [rsi + {begun}], rcx
.endm
.macro space
    mov [rsi + {done}], rcx
    mov rax, 6364136223846793005
    imul r8, rax
    inc r8
    mov rax, r8
    shr rax, 40
    and rax, r9
2:  dec rax
    jns 2b
    dec rdx
    jnz 1b
    mov rax, r8
    ret
.endm

writer 1
    mov [rdi], al
    space
writer 2
    mov [rdi], ax
    space
writer 4
    mov [rdi], eax
    space
writer 8
    mov [rdi], rax
    space

// Two halves, the second one first: whoever reads them in one order never finds the first half newer.
writer halves
    mov [rdi + 2], ax
    mov [rdi], ax
    space
writer halves_fence
    mov [rdi + 2], ax
    mfence
    mov [rdi], ax
    space
writer halves_pause
    mov [rdi + 2], ax
    mov r10d, 20
3:  pause
    dec r10d
    jnz 3b
    mov [rdi], ax
    space

// Writers of two versions in turn: even generations store the first word behind the counters, odd ones the second.
.macro alternate name
survey_entry alternate_\name
1:  inc rcx
    mov eax, ecx
    and eax, 1
    mov rax, [rsi + 8*rax + {scratch}]
    mov [rsi + {begun}], rcx
.endm

alternate 1
    mov [rdi], al
    space
alternate 8
    mov [rdi], rax
    space

// No instruction stores five bytes: this is how a copy routine stores them.
writer 5
    mov byte ptr [rsi + {scratch}], 0xb8
    mov [rsi + {scratch} + 1], eax
    mov r10, rdi
    mov r11, rcx
    mov rax, rsi
    lea rsi, [rsi + {scratch}]
    mov ecx, 5
    rep movsb
    mov rsi, rax
    mov rcx, r11
    mov rdi, r10
    space

// One 16-byte store: MOV RAX, imm64; RET; filler.
writer 16
    mov r10, rax
    shl r10, 16
    or r10, 0xb848
    shr rax, 48
    mov r11d, 0xccc30000
    or rax, r11
    mov r11, 0xcccccccc00000000
    or rax, r11
    movq xmm0, r10
    movq xmm1, rax
    punpcklqdq xmm0, xmm1
    movups [rdi], xmm0
    space

.global crossmod_survey_end
crossmod_survey_end:
.popsection
