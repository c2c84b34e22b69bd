#version 300 es
// One plane: image, then activation map, then masks. Spaces: LPS mm and voxel indices.
precision highp float;
precision highp int;
precision highp sampler3D;
precision highp usampler3D;

uniform vec2 uPanel;        // lower left corner of the panel in the canvas, pixels
uniform float uHeight;      // of the panel, pixels
uniform vec3 uOrigin, uRight, uDown;
uniform sampler3D uImage;
uniform mat4 uImageIndex;   // LPS -> index
uniform vec3 uImageSize;
uniform vec2 uWindow;       // low, 1 / (high - low)
uniform bool uIsInverted;
uniform usampler3D uLabels;
uniform bool uHasLabels;
uniform sampler2D uLook;    // row 0: colour and opacity of each label; row 1: x is outline
uniform float uLineWidth;   // pixels
uniform sampler3D uMap;
uniform bool uHasMap;
uniform mat4 uMapIndex;
uniform vec3 uMapSize;
uniform vec4 uMapLook;      // threshold, opacity, low, 1 / (high - low)
uniform sampler2D uMapColours;
out vec4 colour;

vec3 indexOf(mat4 toIndex, vec3 point) { return (toIndex * vec4(point, 1.0)).xyz; }

// A voxel reaches half a step to each side of its centre.
bool isInside(vec3 index, vec3 size) {
  return all(greaterThanEqual(index, vec3(-0.5))) && all(lessThan(index, size - 0.5));
}

uint labelAt(vec2 pixel) {
  vec3 index = indexOf(uImageIndex, uOrigin + pixel.x * uRight + pixel.y * uDown);
  if (!isInside(index, uImageSize)) return 0u;
  return texelFetch(uLabels, ivec3(floor(index + 0.5)), 0).r;
}

void main() {
  vec2 pixel = vec2(gl_FragCoord.x - uPanel.x - 0.5, uHeight - (gl_FragCoord.y - uPanel.y) - 0.5);
  vec3 point = uOrigin + pixel.x * uRight + pixel.y * uDown;
  vec3 index = indexOf(uImageIndex, point);
  if (!isInside(index, uImageSize)) { colour = vec4(0.0, 0.0, 0.0, 1.0); return; }

  float value = texture(uImage, (index + 0.5) / uImageSize).r;
  float shade = clamp((value - uWindow.x) * uWindow.y, 0.0, 1.0);
  vec3 mixed = vec3(uIsInverted ? 1.0 - shade : shade);

  if (uHasMap) {
    vec3 at = indexOf(uMapIndex, point);
    if (isInside(at, uMapSize)) {
      float activation = texture(uMap, (at + 0.5) / uMapSize).r;
      if (activation >= uMapLook.x) {
        float place = clamp((activation - uMapLook.z) * uMapLook.w, 0.0, 1.0);
        vec3 tint = texture(uMapColours, vec2((place * 255.0 + 0.5) / 256.0, 0.5)).rgb;
        mixed = mix(mixed, tint, uMapLook.y);
      }
    }
  }

  if (uHasLabels) {
    uint label = labelAt(pixel);
    if (label > 0u) {
      int place = int(min(label, 4095u));
      vec4 look = texelFetch(uLook, ivec2(place, 0), 0);
      float alpha = look.a;
      if (texelFetch(uLook, ivec2(place, 1), 0).r > 0.5 && alpha > 0.0) {
        float d = uLineWidth;
        bool isEdge = labelAt(pixel + vec2(d, 0.0)) != label || labelAt(pixel - vec2(d, 0.0)) != label
          || labelAt(pixel + vec2(0.0, d)) != label || labelAt(pixel - vec2(0.0, d)) != label;
        alpha = isEdge ? min(1.0, alpha * 2.0) : 0.0;
      }
      mixed = mix(mixed, look.rgb, alpha);
    }
  }
  colour = vec4(mixed, 1.0);
}
