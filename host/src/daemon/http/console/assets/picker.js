// A field for some of a pipeline's partitions; all of them if none is chosen.

import { get } from "./api.js";
import { check, field } from "./dialog.js";
import { h, plural, replace } from "./dom.js";

/** `{node, chosen(), inWords()}`. Where the names are not known, they can be written. */
export function partitionPicker(pipeline) {
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const node = h("div", { class: "picker" }, field("Partitions", input, "Names with commas between; empty: all."));
  let boxes = null;

  namesOf(pipeline).then((names) => {
    // Somebody who has begun to write keeps the field.
    if (names.length === 0 || input.value) return;
    boxes = names.map((name) => [name, h("input", { type: "checkbox" })]);
    replace(
      node,
      h(
        "fieldset",
        { class: "choice" },
        h("legend", {}, "Partitions"),
        h("p", { class: "field-hint" }, "None ticked: all."),
        h("div", { class: "picker-boxes" }, boxes.map(([name, box]) => check(name, box))),
      ),
    );
  });

  function chosen() {
    if (boxes) return boxes.filter(([, box]) => box.checked).map(([name]) => name);
    return input.value.split(",").map((name) => name.trim()).filter(Boolean);
  }

  return {
    node,
    chosen,
    inWords() {
      const names = chosen();
      if (names.length === 0) return "all partitions";
      return names.length <= 3 ? `partition ${names.join(", ")}` : plural(names.length, "partition");
    },
  };
}

async function namesOf(pipeline) {
  try {
    const { partitions } = await get(`/api/v1/pipelines/${encodeURIComponent(pipeline.name)}/checkpoints`);
    return partitions.map((partition) => partition.name).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  } catch {
    return [];
  }
}
