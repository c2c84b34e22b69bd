// The Streamlit component (components.v2): its default export runs at every change of data or theme.
import type { Scene, ViewerEvent } from "./scene";
import { Viewer } from "./viewer";

interface Component {
  data: { scene: Scene; height: number };
  parentElement: HTMLElement | ShadowRoot;
  setTriggerValue: (name: string, value: unknown) => void;
}

interface Mounted { viewer: Viewer; send: (event: ViewerEvent) => void }

const mounted = new Map<Node, Mounted>();
let sent = 0;

export default function volumeViewer(component: Component): () => void {
  const { data, parentElement } = component;
  // Streamlit drops a trigger that equals the one before: every event has a number.
  const send = (event: ViewerEvent) => component.setTriggerValue("event", { ...event, number: ++sent });
  const known = mounted.get(parentElement);
  if (known) {
    known.send = send;
    known.viewer.host.style.height = `${data.height}px`;
    known.viewer.apply(data.scene);
  } else {
    const entry = { send } as Mounted;
    entry.viewer = new Viewer(data.scene, (event) => entry.send(event));
    entry.viewer.host.style.height = `${data.height}px`;
    mounted.set(parentElement, entry);
    entry.viewer.mount(parentElement);
  }
  return () => {
    mounted.get(parentElement)?.viewer.release();
    mounted.delete(parentElement);
  };
}
