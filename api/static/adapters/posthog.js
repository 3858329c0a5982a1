/* posthog-js reports what the user does; the script only shows nudges, to the same user and session.
 *
 * The ids are posthog-js's own: who it identifies, resets or gives a new session, the script follows.
 */
(() => {
  "use strict";

  function follow(posthog) {
    const adopt = () => nudgeledger.adopt({ user: posthog.get_distinct_id(), session: posthog.get_session_id() });
    adopt();
    for (const name of ["identify", "reset", "alias"]) {
      const original = posthog[name];
      posthog[name] = function (...args) {
        const result = original.apply(this, args);
        adopt();
        return result;
      };
    }
    if (posthog.onSessionId) posthog.onSessionId(adopt);
  }

  function wait(left) {
    const posthog = window.posthog;
    if (posthog && posthog.__loaded) follow(posthog);
    else if (left) setTimeout(wait, 100, left - 1);
    else console.warn("nudgeledger: posthog-js did not start on this page");
  }

  nudgeledger.use({ name: "posthog" });
  wait(100);
})();
