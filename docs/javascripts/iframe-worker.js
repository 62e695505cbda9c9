// The search of these pages runs in a worker, which browsers don't start from a file on a disk: there its script runs in
// a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => {
        const message = new MessageEvent("message", { data });
        this.onmessage?.(message);
        this.dispatchEvent(message);
      };
      inside.importScripts = (...urls) =>
        urls.reduce((before, each) => before.then(() => this.load(inside, each)), Promise.resolve());
      this.inside = this.load(inside, url).then(() => inside);
    }
    load(inside, url) {
      return new Promise((loaded, failed) => {
        const script = inside.document.createElement("script");
        Object.assign(script, { src: new URL(url, location.href).href, onload: loaded, onerror: failed });
        inside.document.body.append(script);
      });
    }
    postMessage(data) {
      this.inside.then((inside) => {
        const message = new MessageEvent("message", { data });
        inside.onmessage?.(message);
        inside.dispatchEvent(message);
      });
    }
    terminate() {}
  };
}
