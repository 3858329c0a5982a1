/* "Open chat" opens the Intercom Messenger with the nudge's question written into a new message. */
(() => {
  "use strict";
  nudgeledger.use({
    name: "intercom",
    openChat(nudge) {
      if (!window.Intercom) throw new Error("the Intercom Messenger is not on this page");
      window.Intercom("showNewMessage", nudge.body);
    },
  });
})();
