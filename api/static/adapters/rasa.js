/* "Open chat" puts the nudge's question into the Rasa conversation of this browser tab.
 *
 * rasa-webchat keeps its session in sessionStorage.chat_session. The service sends the question, and behind
 * it the answer; it records both, so the script does not.
 */
(() => {
  "use strict";

  function sender() {
    const kept = sessionStorage.getItem("chat_session");
    if (!kept) return null;
    try {
      const session = JSON.parse(kept);
      return typeof session === "object" && session ? session.session_id : String(session);
    } catch {
      return kept;
    }
  }

  nudgeledger.use({
    name: "rasa",
    reports: true,
    async openChat(nudge) {
      const open = window.WebChat && window.WebChat.open;
      if (open) open();
      const sender_id = sender();
      if (!sender_id) throw new Error("no chat session in sessionStorage.chat_session");
      await nudgeledger.flush();
      const { user_id } = nudgeledger;
      const call = { sender_id, user_id, body: nudge.body, trigger_id: nudge.trigger_id };
      const answer = await nudgeledger.post("/proactive/inject", call);
      if (!answer.ok) throw new Error(`the chat did not take it (${answer.status})`);
    },
  });
})();
