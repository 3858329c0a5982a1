// Which product. Where there is only one, its live page is shown at once.

import { get } from "./api.js";
import { h, said } from "./dom.js";
import { head, notice } from "./parts.js";
import { go, to } from "./router.js";

export async function products({ show, signal }) {
  const { products: listed } = await get([], {}, signal);
  if (!listed.length) {
    show("Products", notice("No product yet", "A product begins with its config. Put one, and its sessions appear here:",
      h("pre", {}, h("code", {}, `curl -X PUT ${location.origin}/v1/products/acme/config \\\n  -H 'content-type: application/yaml' --data-binary @acme.yaml`))));
    return;
  }
  if (listed.length === 1) {
    go(to([listed[0].product_id]), { replace: true });
    return;
  }
  show("Products", head("Products"), h("ul", { class: "products" }, listed.map((row) =>
    h("li", {}, h("a", { href: to([row.product_id]), data: { item: "" } }, h("b", {}, said(row.product_id)),
      h("span", { class: "soft" }, row.config_revision ? `revision ${row.config_revision}` : "no config yet"))))));
}
