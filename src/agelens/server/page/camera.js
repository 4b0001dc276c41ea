// A camera of this device: opened, turned, closed, and one picture taken.

export class Camera {
  constructor(video) {
    this.video = video;
    this.stream = null;
    this.facing = "user";
  }

  static get exists() {
    return Boolean(navigator.mediaDevices?.getUserMedia);
  }

  // Throws an Error whose message is a sentence.
  async open() {
    this.close();
    try {
      const wanted = { facingMode: this.facing, width: { ideal: 1920 }, height: { ideal: 1080 } };
      this.stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch (error) {
      throw new Error(explain(error.name), { cause: error });
    }
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  async countCameras() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter((device) => device.kind === "videoinput").length;
  }

  async turn() {
    this.facing = this.facing === "user" ? "environment" : "user";
    await this.open();
  }

  // What the camera sees now, as a JPEG file.
  async shoot(name) {
    const canvas = document.createElement("canvas");
    canvas.width = this.video.videoWidth;
    canvas.height = this.video.videoHeight;
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
    return new File([blob], name, { type: "image/jpeg" });
  }

  close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }
}

function explain(name) {
  if (name === "NotAllowedError") return "The camera may not be used. Allow it in the browser’s settings for this page.";
  if (name === "NotFoundError") return "There is no camera.";
  if (name === "NotReadableError") return "Another program is using the camera.";
  return "The camera can’t be opened.";
}
