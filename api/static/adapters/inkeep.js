/* "Open chat" shows the nudge's question as the first message of the Inkeep widget.
 *
 * The widget is what Inkeep.EmbeddedChat(…), ModalChat(…) or ChatButton(…) returned:
 * nudgeledger.inkeep = widget. It reads its first message once, when it is mounted, so it is mounted anew.
 */
(() => {
  "use strict";
  nudgeledger.use({
    name: "inkeep",
    openChat(nudge) {
      const widget = nudgeledger.inkeep;
      if (!widget) throw new Error("set nudgeledger.inkeep to the widget");
      widget.update({ aiChatSettings: { introMessage: nudge.body }, modalSettings: { isOpen: true } });
      widget.unmount();
      widget.remount();
    },
  });
})();
