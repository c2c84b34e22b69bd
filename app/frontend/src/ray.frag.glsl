#version 300 es
// The whole volume from one side: maximum intensity, masks as bodies, or the window as opacity.
precision highp float;
precision highp int;
precision highp sampler3D;
precision highp usampler3D;

uniform vec2 uSize;         // of the target, pixels
uniform vec3 uOrigin, uRight, uDown, uForward; // LPS mm; forward is a unit vector
uniform sampler3D uImage;
uniform mat4 uImageIndex;
uniform vec3 uImageSize;
uniform vec2 uWindow;
uniform bool uIsInverted;
uniform usampler3D uLabels;
uniform bool uHasLabels;
uniform sampler2D uLook;
uniform int uMode;          // 0 MIP, 1 masks over a faint MIP, 2 volume
uniform int uSteps;
out vec4 colour;

vec4 lookAt(vec3 place) {
  ivec3 voxel = clamp(ivec3(floor(place * uImageSize)), ivec3(0), ivec3(uImageSize) - 1);
  uint label = texelFetch(uLabels, voxel, 0).r;
  return label == 0u ? vec4(0.0) : texelFetch(uLook, ivec2(int(min(label, 4095u)), 0), 0);
}

float shadeAt(vec3 place) { return clamp((texture(uImage, place).r - uWindow.x) * uWindow.y, 0.0, 1.0); }

// Towards where there is less of the body, in index space; light comes from the eye.
float lit(vec3 place, vec3 direction, vec3 voxel) {
  vec3 slope = vec3(0.0);
  for (int axis = 0; axis < 3; axis++) {
    for (float reach = 1.0; reach < 4.0; reach += 1.0) {
      vec3 d = vec3(0.0);
      d[axis] = reach * voxel[axis];
      slope[axis] += (lookAt(place - d).a > 0.0 ? 1.0 : 0.0) - (lookAt(place + d).a > 0.0 ? 1.0 : 0.0);
    }
  }
  float steep = length(slope);
  return steep == 0.0 ? 0.6 : 0.35 + 0.65 * abs(dot(slope / steep, normalize(direction)));
}

void main() {
  vec2 pixel = vec2(gl_FragCoord.x - 0.5, uSize.y - gl_FragCoord.y - 0.5);
  vec3 point = uOrigin + pixel.x * uRight + pixel.y * uDown;
  // Texture coordinates along the ray: start + t * way, t in mm.
  vec3 start = ((uImageIndex * vec4(point, 1.0)).xyz + 0.5) / uImageSize;
  vec3 way = (mat3(uImageIndex) * uForward) / uImageSize;
  vec3 a = (vec3(0.0) - start) / way;
  vec3 b = (vec3(1.0) - start) / way;
  float near = max(max(min(a.x, b.x), min(a.y, b.y)), min(a.z, b.z));
  float far = min(min(max(a.x, b.x), max(a.y, b.y)), max(a.z, b.z));
  if (near >= far) { colour = vec4(0.0, 0.0, 0.0, 1.0); return; }

  float stride = (far - near) / float(uSteps);
  vec3 voxel = 1.0 / uImageSize;
  float brightest = 0.0;
  vec4 body = vec4(0.0);
  vec4 before = vec4(0.0);
  for (int i = 0; i < uSteps; i++) {
    vec3 place = start + (near + (float(i) + 0.5) * stride) * way;
    float shade = shadeAt(place);
    brightest = max(brightest, shade);
    if (uMode == 1 && uHasLabels && body.a < 0.98) {
      vec4 look = lookAt(place);
      // Only where a body begins: its opacity does not depend on how thick it is.
      if (look.a > 0.0 && distance(look, before) > 0.001) {
        float alpha = mix(0.55, 1.0, look.a);
        body += (1.0 - body.a) * vec4(look.rgb * lit(place, way, voxel) * alpha, alpha);
      }
      before = look;
    }
    if (uMode == 2) {
      float alpha = 1.0 - pow(1.0 - 0.75 * shade * shade, stride / 3.0);
      body += (1.0 - body.a) * vec4(vec3(shade) * alpha, alpha);
      if (body.a > 0.98) break;
    }
  }
  if (uMode == 0) colour = vec4(vec3(uIsInverted ? 1.0 - brightest : brightest), 1.0);
  else if (uMode == 1) colour = vec4(body.rgb + (1.0 - body.a) * vec3(0.3 * brightest), 1.0);
  else colour = vec4(body.rgb, 1.0);
}
