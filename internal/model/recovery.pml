/* Recovery when the ordinary quorum is lost, or is said to be lost.
 *
 * The root N can be followed by an ordinary N+1, which the parties sign, or by one
 * that a recovery statement names.  Three operators serve the repository: H1 and
 * H2 are honest, T is the thief's.  He is on the network too: he may cut off H1
 * and H2 at any request.  The client may search often or seldom; its clock is moved
 * once, far ahead.
 *
 *   regular   the parties have their keys
 *   recthief  the thief has the recovery quorum, and makes an evil statement
 *   else      the parties have lost their keys, and the recovery quorum makes an honest one
 *
 * Who runs an honest place looks at what it serves: when a statement stands there
 * that should not, the parties sign N+1 within the time WATCH.
 *
 * Each -D below switches off one rule; README.md says what then goes wrong.
 */
#define HOLD  3          /* time to wait, in shares of the hold */
#define TICKS 3          /* searches to wait */
#define WATCH 2

bool regular, recthief;
bool next = false;       /* N+1 stands at H1 and H2 */
bool good = false;       /* the honest statement stands there */
bool evil = false;       /* the evil one stands there; at T it does from the beginning */
byte watched = 0;        /* time since then */
bool moved = false;      /* the clock was */
byte state = 0;          /* the client: 0 at N, 1 at N+1, 2 recovered honestly, 3 evilly */
byte pend = 0;           /* waits for: 1 the honest statement, 2 the evil one */
byte held = 0, ticks = 0, calm = 0;
byte nones, shows, shown, nap, seems;
bool up1, up2;

inline reset() { nones = 0; shows = 0; shown = 0; nap = 0; seems = 0; up1 = false; up2 = false }

active proctype world() {
  atomic {
    if :: regular = true :: regular = false fi;
    if :: recthief = true :: recthief = false fi
  }
  if
  :: recthief && regular -> atomic { evil = true }
  :: regular -> atomic { next = true }
  :: !regular && !recthief -> atomic { good = true }
  :: else
  fi
}

/* an ordinary root: operators that say there is none; 9: here it is */
inline search() {
  if :: up1 = true :: up1 = false fi;
  if :: up2 = true :: up2 = false fi;
  nones = 1;                                     /* T says so, always */
  if
  :: next && (up1 || up2) -> nones = 9
  :: else -> if :: up1 -> nones++ :: else fi; if :: up2 -> nones++ :: else fi
  fi
}
/* statements: how many operators show one, which one */
inline look() {
  shows = 0; shown = 0;
#ifdef ASK_ANYBODY
  /* also those who did not say that there is no ordinary root: they may be there again */
  if :: up1 = true :: skip fi;
#endif
  if
  :: recthief -> shown = 2; shows = 1; if :: evil && up1 -> shows++ :: else fi; if :: evil && up2 -> shows++ :: else fi
  :: !recthief && good -> shown = 1; if :: up1 -> shows++ :: else fi; if :: up2 -> shows++ :: else fi
  :: else
  fi
}

active proctype client() {
end_c:
  do
  :: state == 0 || state == 1 -> atomic {
       /* what passed since the last search, in shares of the hold */
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
                   if :: seems > 0 -> held++ :: else fi    /* of a longer time no more counts than a search's share */
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
       /* the statement would follow any root */
       :: state == 1 -> if :: pend == 0 && recthief && evil -> state = 3 :: else fi
#endif
       :: else
       fi;
       assert(!(state == 3 && regular));
       /* an honest recovery comes in time: after one search to begin with, and the wait */
       if
       :: good && state == 0 && up1 && up2 && seems > 0 -> calm++; assert(calm <= TICKS + 1)
       :: else
       fi;
       reset() }
  :: state >= 2 -> break
  od
}
