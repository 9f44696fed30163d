/*
 * The int3 protocol for SPIN: arm, int3, sync, tail, sync, first, sync, disarm, done. NEXEC executors make
 * NPASS passes each through a five-byte site, and NNMI NMIs, whose handler runs the site too, may come to any
 * of them at any time. The scenario and its moves are those of Crossmod's explorer with reduction; here no
 * instruction is executed, and a fetch is a choice among commits. scripts/spin builds and runs it.
 *
 *   NEXEC, NPASS, NNMI   bounds; 3, 3, 1 unless given
 *   STRADDLE             the site stands across two atoms, 2 bytes and 3; else inside one
 *   COHERENT             a fetch sees every commit, at one instant; else it may miss the latest ones
 *   BLOCK                each atom has a fetch clock of its own; else there is one for both
 *   COARSE               CALL and fetch are one move, and so are the handler's four reads
 *   NOSYNC1, 2, 3        drops the sync after the int3, after the tail, after the first byte
 *   NODISARM             leaves the handler armed
 *
 * A move is what one executor does up to where another actor could tell: an instruction that reads or writes
 * shared memory, fetches from the site or serialises, with the private instructions behind it. Each is one
 * d_step. Places are places of the process, so that a state holds few variables: where an interrupt returns to
 * is known by the copy of its handler that is running.
 */

#ifndef NEXEC
#define NEXEC 3
#endif
#ifndef NPASS
#define NPASS 3
#endif
#ifndef NNMI
#define NNMI 1
#endif

#define ME  (1 << _pid)
#define ALL ((1 << NEXEC) - 1)

unsigned pending : NEXEC;   /* IPIs on their way, a bit for each executor */
unsigned acked : NEXEC;
unsigned n : 3;             /* commits so far */
bit described, armed, done;
#if NNMI > 0
unsigned nmis : 3 = NNMI;   /* still to come */
#endif
#ifdef STRADDLE
bit back;                   /* of the tail's two pieces, the one in the second atom came first */
#endif

/*
 * Commits of the protocol, in order:
 *   inside one atom   1 int3, 2 tail, 3 first
 *   across two        1 int3, 2 and 3 the tail's pieces, 4 first; the second atom is new from TAIL2 on
 * A clock is how many commits its reader has seen.
 */
#ifdef STRADDLE
#define LAST  4
#define TAIL2 (3 - back)
#else
#define LAST  3
#endif

/* May a read that begins at this clock see exactly the first k commits? */
#ifdef COHERENT
#define SEES(clock, k) (n == (k))
#else
#define SEES(clock, k) (clock <= (k) && n >= (k))
#endif

#if defined(COHERENT)
#define SERIALISE skip
#define SEEN(k)   skip
#elif defined(STRADDLE) && defined(BLOCK)
#define SERIALISE clk = n; clk2 = n
#define SEEN(k)   clk = (k)
#else
#define SERIALISE clk = n
#define SEEN(k)   clk = (k)
#endif

/* What a pass that executes old, or meets the int3, or has executed or emulated new, must hold to. */
#define OLD(after, before) assert(!after); assert(!before)
#define INT3(after)        assert(!after)
#define NEW                seen_new = 1
#define FORGET(after, before) after = 0; before = 0

/* The ways in which the site can be fetched; `more` is an additional guard. Those that end in a trap go on
   with `trap`; a torn fetch ends the execution. */
#ifndef STRADDLE
#define FETCHES(more, after, before, forget, trap, out) \
	:: d_step { more SEES(clk, 0) -> OLD(after, before); forget } out \
	:: d_step { more SEES(clk, 1) -> INT3(after); SEEN(1); forget }; trap out \
	:: d_step { more SEES(clk, 2) -> INT3(after); SEEN(2); forget }; trap out \
	:: d_step { more SEES(clk, 3) -> NEW; SEEN(3); forget } out
#else
#define TRAPS(more, after, forget, trap, out) \
	:: d_step { more SEES(clk, 1) -> INT3(after); SEEN(1); forget }; trap out \
	:: d_step { more SEES(clk, 2) -> INT3(after); SEEN(2); forget }; trap out \
	:: d_step { more SEES(clk, 3) -> INT3(after); SEEN(3); forget }; trap out
#if defined(COHERENT)
#define FETCHES(more, after, before, forget, trap, out) \
	:: d_step { more n == 0 -> OLD(after, before); forget } out \
	TRAPS(more, after, forget, trap, out) \
	:: d_step { more n == 4 -> NEW; forget } out
#elif defined(BLOCK)
/* The first atom says which instruction begins there, the second one whether its tail belongs to it. */
#define FETCHES(more, after, before, forget, trap, out) \
	:: d_step { more SEES(clk, 0) && SEES(clk2, 0) -> OLD(after, before); forget } out \
	:: d_step { more SEES(clk, 0) && SEES(clk2, 1) -> OLD(after, before); clk2 = 1; forget } out \
	:: d_step { more SEES(clk, 0) && !back && SEES(clk2, 2) -> OLD(after, before); clk2 = 2; forget } out \
	:: d_step { more SEES(clk, 0) && n >= TAIL2 -> assert(!torn) }; false \
	TRAPS(more, after, forget, trap, out) \
	:: d_step { more SEES(clk, 4) && clk2 < TAIL2 -> assert(!torn) }; false \
	:: d_step { more SEES(clk, 4) && clk2 <= 2 && back -> NEW; SEEN(4); clk2 = 2; forget } out \
	:: d_step { more SEES(clk, 4) && SEES(clk2, 3) -> NEW; SEEN(4); clk2 = 3; forget } out \
	:: d_step { more SEES(clk, 4) && SEES(clk2, 4) -> NEW; SEEN(4); clk2 = 4; forget } out
#else
#define FETCHES(more, after, before, forget, trap, out) \
	:: d_step { more SEES(clk, 0) -> OLD(after, before); forget } out \
	:: d_step { more clk == 0 && n >= 1 -> OLD(after, before); SEEN(1); forget } out \
	:: d_step { more clk == 0 && n >= 2 && !back -> OLD(after, before); SEEN(2); forget } out \
	:: d_step { more clk == 0 && n >= TAIL2 -> assert(!torn) }; false \
	TRAPS(more, after, forget, trap, out) \
	:: d_step { more SEES(clk, 4) -> NEW; SEEN(4); forget } out
#endif
#endif
#define torn 1  /* numbers, by which pan's output tells them apart */

/* Moves that other actors may put before any move of this one. NMIs are blocked from one delivery to the
   next IRET, also that of a trap inside the NMI's handler; a second NMI there would find the first one's
   frame in its place. */
#if NNMI == 0
#define NMI
#define IN_NMI
#define OPEN_NMIS
#elif NNMI == 1
#define NMI :: d_step { nmis -> nmis = 0 }; nmi_handler()
#define IN_NMI
#define OPEN_NMIS
#else
#define NMI \
	:: d_step { (latched || nmis) -> \
		if :: latched -> latched = 0 :: else -> nmis = nmis - 1 fi; blocked = 1 }; \
		nmi_handler()
#define IN_NMI \
	:: d_step { blocked && !latched && nmis -> latched = 1; nmis = nmis - 1 } \
	:: d_step { !blocked && (latched || nmis) -> assert(!nmi_frame) }; false
#define OPEN_NMIS ; blocked = 0
#define nmi_frame 2
#endif
#define IPI :: d_step { pending & ME -> pending = pending & ~ME }; ipi_handler()

/* One move, with whatever may come before it. */
#define MOVE(move, events) do :: d_step { move }; break events od

/* The #BP handler. */
#ifdef COARSE
#define READS(events) \
	do :: armed && described; break :: d_step { !(armed && described) -> assert(armed) }; false events od
#else
#define READS(events) \
	do :: armed; break :: d_step { !armed -> assert(armed) }; false events od; \
	do :: described; break :: d_step { !described -> assert(described) }; false events od; \
	do :: true; break events od; /* which action */ \
	do :: true; break events od  /* where to resume */
#endif
#define TRAP(events) READS(events); MOVE(SERIALISE; NEW OPEN_NMIS, events)

inline nmi_handler() {
#ifdef COARSE
	do FETCHES(, done, seen_new, skip, TRAP(IN_NMI), ; break) IN_NMI od;
#else
	MOVE(nmi_after = done; nmi_before = seen_new, IN_NMI);
	do FETCHES(, nmi_after, nmi_before, FORGET(nmi_after, nmi_before), TRAP(IN_NMI), ; break) IN_NMI od;
#endif
	MOVE(SERIALISE OPEN_NMIS, IN_NMI)
}

inline ipi_handler() {
	MOVE(SERIALISE, NMI);
	MOVE(acked = acked | ME, NMI);
	MOVE(SERIALISE, NMI)
}

active [NEXEC] proctype executor() {
	unsigned left : 4 = NPASS;
#ifndef COHERENT
	unsigned clk : 3;               /* commits seen */
#endif
#if defined(STRADDLE) && defined(BLOCK)
	unsigned clk2 : 3;
#endif
	bit seen_new;                   /* a pass has ended as new */
#ifndef COARSE
	bit after, before;              /* when this pass began: the patcher was done, a pass had ended as new */
#if NNMI > 0
	bit nmi_after, nmi_before;      /* the same for the pass of the NMI's handler */
#endif
#endif
#if NNMI > 1
	bit blocked, latched;
#endif

	/* Outside of the site, or parked. */
end:	do
#ifdef COARSE
	FETCHES(left &&, done, seen_new, left = left - 1, TRAP(NMI), )
#else
	:: d_step { left -> left = left - 1; after = done; before = seen_new };
	   do FETCHES(, after, before, FORGET(after, before), TRAP(NMI), ; break) IPI NMI od
#endif
	IPI NMI
	od
}

#define SYNC pending = ALL; acked = 0
active proctype patcher() {
	described = 1;
	armed = 1;
	n = 1;
#ifndef NOSYNC1
	d_step { SYNC };
	acked == ALL;
#endif
#ifdef STRADDLE
	if :: n = 2 :: d_step { n = 2; back = 1 } fi;
#endif
	n = LAST - 1;
#ifndef NOSYNC2
	d_step { SYNC };
	acked == ALL;
#endif
	n = LAST;
#ifndef NOSYNC3
	d_step { SYNC };
	acked == ALL;
#endif
#ifndef NODISARM
	armed = 0;
#endif
	done = 1
}
