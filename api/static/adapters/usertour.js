/* "Show me" starts the tour's flow in Usertour.js, which the page has loaded and identified its user with.
 *
 * Usertour.js says nothing when a flow ends, so it is asked once a second; what came of it (completed or
 * dismissed) its webhooks say.
 */
(() => {
  "use strict";
  const STARTS_MS = 10000; // how long a started flow may take to appear

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  async function until(test, ms) {
    for (let waited = 0; !test(); waited += 100) {
      if (waited >= ms) return false;
      await pause(100);
    }
    return true;
  }

  async function watch(flow, tour) {
    const runs = () => window.usertour.isStarted(flow);
    if (!(await until(runs, STARTS_MS))) return nudgeledger.tour.end("dismissed");
    while (runs()) await pause(1000);
    if (nudgeledger.tour.id === tour) nudgeledger.tour.end(null);
  }

  nudgeledger.use({
    name: "usertour",
    async showMe(tour) {
      const usertour = window.usertour;
      if (!usertour) throw new Error("Usertour.js is not on this page");
      if (!(await until(() => usertour.isIdentified(), 5000))) {
        throw new Error("call usertour.identify before a tour can start");
      }
      const flow = tour.flow_id || tour.id;
      await usertour.start(flow);
      watch(flow, tour.id);
    },
  });
})();
