/* Recovery after the loss of the root threshold, or a false claim of it.
 *
 * Root N can be followed by a regular N+1, which the parties sign, or by a root that a recovery
 * statement names. Three operators serve the repository: H1 and H2 are honest, T is the attacker.
 * The attacker also controls the network and may block H1 and H2 at any request. The client may
 * check often or seldom; its clock is moved once, far ahead.
 *
 *   regular   the parties have their keys
 *   recbad    the recovery quorum is compromised, and signs a malicious statement
 *   else      the parties have lost their keys, and the recovery quorum signs an honest statement
 *
 * The operators of honest locations monitor them: if one serves an unexpected statement, the
 * parties sign N+1 within the time WATCH.
 *
 * Each -D below switches off one rule; README.md describes the failure without it.
 */
#define HOLD  3          /* waiting period, in shares of the hold */
#define TICKS 3          /* root checks in the waiting period */
#define WATCH 2

bool regular, recbad;
bool next = false;       /* H1 and H2 serve N+1 */
bool good = false;       /* they serve the honest statement */
bool evil = false;       /* they serve the malicious one; T always does */
byte watched = 0;        /* time since then */
bool moved = false;      /* the clock was moved */
byte state = 0;          /* the client: 0 at N, 1 at N+1, 2 at the honest recovery, 3 at the malicious one */
byte pend = 0;           /* pending statement: 1 honest, 2 malicious */
byte held = 0, ticks = 0, calm = 0;
byte nones, shows, shown, nap, seems;
bool up1, up2;

inline reset() { nones = 0; shows = 0; shown = 0; nap = 0; seems = 0; up1 = false; up2 = false }

active proctype world() {
  atomic {
    if :: regular = true :: regular = false fi;
    if :: recbad = true :: recbad = false fi
  }
  if
  :: recbad && regular -> atomic { evil = true }
  :: regular -> atomic { next = true }
  :: !regular && !recbad -> atomic { good = true }
  :: else
  fi
}

/* a regular root: number of operators that report none; 9: it was served */
inline search() {
  if :: up1 = true :: up1 = false fi;
  if :: up2 = true :: up2 = false fi;
  nones = 1;                                     /* T always reports none */
  if
  :: next && (up1 || up2) -> nones = 9
  :: else -> if :: up1 -> nones++ :: else fi; if :: up2 -> nones++ :: else fi
  fi
}
/* statements: number of operators that serve one, and which */
inline look() {
  shows = 0; shown = 0;
#ifdef ASK_ANYBODY
  /* includes operators that did not report the lack of a regular root: they may be reachable again */
  if :: up1 = true :: skip fi;
#endif
  if
  :: recbad -> shown = 2; shows = 1; if :: evil && up1 -> shows++ :: else fi; if :: evil && up2 -> shows++ :: else fi
  :: !recbad && good -> shown = 1; if :: up1 -> shows++ :: else fi; if :: up2 -> shows++ :: else fi
  :: else
  fi
}

active proctype client() {
end_c:
  do
  :: state == 0 || state == 1 -> atomic {
       /* time since the last root check, in shares of the hold */
       if
       :: nap = 0 :: nap = 1 :: nap = HOLD
       :: !moved -> moved = true; seems = HOLD
       fi;
       if :: nap > seems -> seems = nap :: else fi;
       if :: evil && watched < 9 -> watched = watched + nap :: else fi;
       if :: watched > 9 -> watched = 9 :: else fi;
       if :: regular && evil && watched >= WATCH -> next = true :: else fi;
       if
       :: state == 0 ->
          search();
#ifndef NO_VETO
          if :: nones == 9 -> state = 1; pend = 0; ticks = 0; held = 0 :: else fi;
#endif
          if
#ifdef ONE_SEARCHED
          :: state == 0 && nones >= 1 ->
#else
          :: state == 0 && nones >= 2 ->
#endif
             look();
             if
#ifdef SHOWN_BY_ONE
             :: shows >= 1 ->
#else
             :: shows >= 2 ->
#endif
                if
                :: pend != shown -> pend = shown; ticks = 0; held = 0
                :: else -> ticks++;
#ifdef WALL_CLOCK
                   held = held + seems
#else
                   if :: seems > 0 -> held++ :: else fi    /* a longer time counts only as one share */
#endif
                fi;
#ifdef NO_HOLD
                held = HOLD;
                ticks = TICKS;
#endif
                if :: held > HOLD -> held = HOLD :: else fi;
                if :: ticks > TICKS -> ticks = TICKS :: else fi;
                if :: ticks >= TICKS && held >= HOLD -> state = (shown == 2 -> 3 : 2) :: else fi
             :: else
             fi
          :: else
          fi
#ifdef UNBOUND
       /* the statement is not bound to a root */
       :: state == 1 -> if :: pend == 0 && recbad && evil -> state = 3 :: else fi
#endif
       :: else
       fi;
       assert(!(state == 3 && regular));
       /* an honest recovery is accepted in time: after a first root check and the waiting period */
       if
       :: good && state == 0 && up1 && up2 && seems > 0 -> calm++; assert(calm <= TICKS + 1)
       :: else
       fi;
       reset() }
  :: state >= 2 -> break
  od
}
